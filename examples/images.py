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
# # Images that hear those around them
#
# Photographs with coordinates are a graph: images within some miles of each other are neighbours. FIMP keeps every
# image as a sequence of patches, and a message between two images is attention from one to the patches of the other.
# This notebook classifies images by their pixels and their neighbours', maps what the model says, and shows which
# patches it looked at.
#
# Without a file it runs on simulated fields, ploughed in a direction that is drawn around that of their country: an
# image alone tells the country in 6 of 10 cases at best. Set `FILE` to a table of your own with columns `path`,
# `latitude`, `longitude` and `label`, and `SPLIT_BY` to a column whose values stay together in the split (or None).

# %%
FILE = None  # "images.csv"
SPLIT_BY = "region"
PLACES = 600  # of the simulated images
EPOCHS = 30

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import fimp
from fimp.analysis.overlays import overlay_figure

# %%
if FILE is None:
    FILE = fimp.data.simulate.images(tempfile.mkdtemp(), n_places=PLACES, labelled=1.0)
settings = {"split_by": SPLIT_BY, "image_size": 48, "patch_size": 16, "batch_size": 64, "seed": 0}

# %% [markdown]
# ## Three models
#
# `mlp` knows the image alone, `sage` its neighbours as well, and `fimp-base` attends to their patches. All see the
# same images and are tested in parts of the map that none of them was trained on.

# %%
models = {}
for name in ("mlp", "sage", "fimp-base"):
    models[name] = fimp.ImageModel(FILE, model=name, dim=64, **settings).fit(max_epochs=EPOCHS)
    print(models[name])

scores = pd.DataFrame({name: model.evaluate() for name, model in models.items()}).T
scores.round(3)

# %% [markdown]
# One seed and some hundred test images: differences of a few hundredths are noise (`fimp compare` tests them). What was
# decided while reading the table is noted:

# %%
model = models["fimp-base"]
data, classes = model.data, np.array(model.classes)
model.notes

# %% [markdown]
# ## Where the model is right
#
# `predict` names a class for every image, labelled or not, and `predict_proba` says how sure the model is. The map
# shows test images alone; crosses are wrong.

# %%
predicted, sure = model.predict(), model.predict_proba().max(axis=1)
truth = np.where(data.y >= 0, classes[data.y], "")
test = model.task.split["test"]
colours = dict(zip(classes, plt.get_cmap("tab10").colors, strict=False))

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), sharex=True, sharey=True, layout="constrained")
for axis, said, title in ((left, truth, "what it is"), (right, predicted, "what the model says")):
    axis.scatter(data.longitude, data.latitude, s=6, color="#dddddd", linewidth=0)
    for name in classes:
        for correct, marker in ((True, "o"), (False, "x")):
            nodes = test[(said[test] == name) & ((predicted[test] == truth[test]) == correct)]
            label = name if correct else None
            axis.scatter(
                data.longitude[nodes], data.latitude[nodes], s=26, color=colours[name], marker=marker, label=label
            )
    axis.set_title(title, loc="left")
    axis.set_xlabel("longitude")
    axis.set_aspect("equal")
left.set_ylabel("latitude")
figure.legend(*left.get_legend_handles_labels(), loc="outside right center", frameon=False)
plt.show()

# %% [markdown]
# Images of which the model is most and least sure:

# %%
order = test[np.argsort(-sure[test])]
chosen = np.concatenate([order[:4], order[-4:]])
figure, axes = plt.subplots(2, 4, figsize=(8, 4.8), layout="constrained")
for axis, node in zip(axes.ravel(), chosen, strict=True):
    axis.imshow(plt.imread(data.paths[node]))
    axis.set_title(f"{predicted[node]} ({sure[node]:.0%})\nis {truth[node]}", fontsize=9)
    axis.set_axis_off()
plt.show()

# %% [markdown]
# ## What an image looks at in its neighbours
#
# In colour an image and what the model says of it; in grey its neighbours, and over them the attention that their
# patches get. 1 is what each patch would get if all got alike.

# %%
overlay_figure(model, Path("patches.png"))
figure, axis = plt.subplots(figsize=(9, 7), layout="constrained")
axis.imshow(plt.imread("patches.png"))
axis.set_axis_off()
plt.show()

# %% [markdown]
# ## Embeddings, and other images
#
# `embed` gives one vector per image. A saved model reads other tables: they need a path and coordinates, no label.

# %%
embedding = model.embed()
centred = embedding - embedding.mean(axis=0)
first, second = (centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T).T
figure, axis = plt.subplots(figsize=(6.2, 4), layout="constrained")
for name in classes:
    nodes = test[truth[test] == name]
    axis.scatter(first[nodes], second[nodes], s=20, color=colours[name], label=name)
axis.set_xlabel("first principal component")
axis.set_ylabel("second")
axis.set_title("embeddings of test images", loc="left")
figure.legend(loc="outside right upper", frameon=False)
plt.show()

# %%
model.save("image_model")
new = pd.read_csv(FILE)[["path", "latitude", "longitude"]].head(60)
new["path"] = [str(Path(FILE).parent / path) for path in new["path"]]
new.to_csv("new_images.csv", index=False)
fimp.load("image_model", "new_images.csv").predict()[:10]

# %% [markdown]
# With the folder of a published vision transformer, `model="fimp:FOLDER"` lets its layers make the messages and
# `model="fm:FOLDER"` is the same model without the graph. `fimp pretrain vit --data IMAGES --out FOLDER` makes one of
# images without labels. On the command line all of this is `fimp compare image --data images.csv`.
