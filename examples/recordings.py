# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Brain regions that hear each other
#
# A recording of brain activity is a graph: regions are nodes, joined to those nearest to them. FIMP cuts the signal
# of a region into patches of time, and a message between two regions is attention from the patches of one to those of
# the other. Three quarters of the patches are hidden and filled in. This notebook trains such a model, looks at what
# it fills in, and asks which region hears which.
#
# Without a folder it runs on simulated recordings, a linear process on a connectome that is known. Set `FOLDER` to
# one of your own, with a file `[regions, time]` per recording and a table `regions.csv` with columns `x`, `y`, `z` in
# mm.

# %%
FOLDER = None  # "my_recordings"
SUBJECTS, REGIONS, VOLUMES = 6, 24, 320  # of the simulated recordings
EPOCHS = 10

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import fimp
from fimp.analysis import token_attention
from fimp.analysis.brain import region_figure

# %%
if FOLDER is None:
    FOLDER = fimp.data.simulate.recordings(tempfile.mkdtemp(), n_subjects=SUBJECTS, n_regions=REGIONS, n_times=VOLUMES)
settings = {"window": 80, "patch": 10, "neighbors": 6, "seed": 0}

# %% [markdown]
# ## Fill in what is hidden
#
# Four rows that see the same windows, masks and splits. `interpolate` draws a line between what is visible of a
# region, `gaussian` is the expected signal under a Gaussian of the training recordings (the best that a linear answer
# can do), `gcn+interpolate` is a graph network on the interpolated signal, and `fimp-base` attends to the patches of
# other regions. Subjects that test were seen by none of them.

# %%
models = {}
for name in ("interpolate", "gaussian", "gcn+interpolate", "fimp-base"):
    models[name] = fimp.RecordingModel(FOLDER, model=name, **settings).fit(max_epochs=EPOCHS)
    print(models[name])

scores = pd.DataFrame({name: model.evaluate() for name, model in models.items()}).T
scores.round(3)

# %% [markdown]
# The simulation is a linear Gaussian process, so `gaussian` knows its form and is hard to beat here; on three
# subjects at rest `fimp-base` is ahead of it (see the table in the README).
#
# `predict` gives every recording with the hidden patches filled in, in the units of the file. Offset and trend of a
# region are measured on the whole recording and are no prediction; `scaled=True` leaves them off.

# %%
model = models["fimp-base"]
model.parts

# %%
filled = {one.name: one for one in model.predict(scaled=True)}
one = filled[model.parts["test"][0]]
tracks = one.hidden.any(axis=1).nonzero()[0][:4]
names = model.task.region_names
time = np.arange(one.signal.shape[1])

figure, axes = plt.subplots(len(tracks), 1, figsize=(9, 6), sharex=True, layout="constrained")
for axis, region in zip(axes, tracks, strict=True):
    seen = np.where(one.hidden[region], np.nan, one.signal[region])
    guess = np.where(one.hidden[region], one.predicted[region], np.nan)
    axis.plot(time, one.signal[region], color="#b5bcc2", linewidth=1.0, label="true")
    axis.plot(time, seen, color="#222222", linewidth=1.2, label="visible")
    axis.plot(time, guess, color="#0b6e99", linewidth=1.4, label="filled in")
    axis.set_title(names[region], loc="left", fontsize=9)
    axis.set_yticks([])
axes[-1].set_xlabel("volume")
handles, labels = axes[0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside upper right", ncols=3, frameon=False)
plt.show()

# %% [markdown]
# How well a region is filled in, over the test recordings:

# %%
error, spread = np.zeros(len(names)), np.zeros(len(names))
for name in model.parts["test"]:
    part = filled[name]
    error += np.where(part.hidden, (part.predicted - part.signal) ** 2, 0.0).sum(axis=1)
    spread += np.where(part.hidden, part.signal**2, 0.0).sum(axis=1)
of_region = pd.Series(1.0 - error / spread, index=names, name="share of the variance")
of_region.sort_values(ascending=False).head().round(3)

# %% [markdown]
# ## Which region hears which
#
# For recordings, attention is the share of each region in what another one hears. Lines join the pairs that hear each
# other most. With nilearn (`pip install 'fimp[nilearn]'`) they are drawn in its glass brain.

# %%
heard = token_attention(model)
heard.ranked()[["receiver", "sender", "attention"]].head(8).round(3)

# %%
xyz = model.task.xyz.numpy()
region_figure(heard.mean, xyz, heard.what, Path("regions.png"))
figure, axis = plt.subplots(figsize=(9, 4.5), layout="constrained")
axis.imshow(plt.imread("regions.png"))
axis.set_axis_off()
plt.show()

# %% [markdown]
# The simulated connectome is known: what a region hears should come from the regions that drive it.

# %%
item = model.data.recordings.recordings[0]
if item.structural is not None:
    drives = np.asarray(item.structural)
    other = ~np.eye(len(names), dtype=bool) & np.isfinite(heard.mean)
    agreement = pd.Series(heard.mean[other]).corr(pd.Series(drives[other]), method="spearman")
    print(f"rank correlation of attention with the connectome: {agreement:.2f}")

# %% [markdown]
# ## Keep the model, and use it on other recordings
#
# Other recordings need the same regions. `embed` gives a vector per window and region.

# %%
model.save("recording_model")
loaded = fimp.load("recording_model", Path(FOLDER))
loaded.embed().shape

# %% [markdown]
# On the command line this is `fimp compare fmri --data FOLDER`, and `fimp attention RUN --contrast group --subjects
# subjects.csv --out DIR` compares two groups of subjects, with p and q. With the folder of a BrainLM,
# `model="fimp:FOLDER"` lets its layers make the messages.
