"""Figures of signals that were filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from fimp.analysis.figures import BEST, GRID, INK, MUTED
from fimp.data.masking import EVALUATION
from fimp.models.checkpoints import short_name
from fimp.tasks import FMRITask

#: Models that are drawn, at most.
_MOST = 8
_TRUE = "#a9b1b7"
#: Background of what is hidden.
HIDDEN = "#f3f1ec"


def reconstruction_figure(task: FMRITask, examples: dict[str, dict[str, Tensor]], results: dict[str, Any]) -> Figure:
    """Draw some regions of a test window: the true signal, what is visible of it, and what each model predicts.

    Parameters
    ----------
    task
        The task with the seed that the examples are of.
    examples
        Of every model, from :meth:`FMRITask.example`; of many models, the best are drawn.
    results
        Content of ``results.json``, which says which are best.
    """
    score = {run["model"]: run["metrics"]["r2"] for run in results["runs"] if run["seed"] == task.seed}
    ranked = sorted(examples, key=lambda name: -np.inf if score[name] is None else -score[name])
    drawn = [name for name in examples if name in ranked[:_MOST]]
    nodes = np.unique(next(iter(examples.values()))["nodes"].numpy())
    inputs = task.inputs(nodes, EVALUATION)
    truth = (inputs.targets * inputs.spread[:, None, None]).numpy()
    hidden = inputs.hidden.numpy()
    size = (3.6 * len(nodes) + 1.2, 1.0 * len(drawn) + 1.1)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    axes = figure.subplots(len(drawn), len(nodes), sharex=True, sharey="col", squeeze=False)
    names = task.region_names
    for row, model in enumerate(drawn):
        for column, node in enumerate(nodes):
            predicted = _patches(examples[model], int(node), hidden[column], truth[column].shape)
            _panel(axes[row, column], truth[column], hidden[column], predicted)
            if row == 0:
                axes[row, column].set_title(names[node % task.regions], fontsize=9, color=INK, loc="left")
            if row == len(drawn) - 1:
                axes[row, column].set_xlabel("volume of the window", fontsize=8, color=MUTED)
        value = score[model]
        said = "" if value is None else f"\nR² {value:.3f}"
        axes[row, 0].set_ylabel(
            f"{short_name(model)}{said}", rotation=0, ha="right", va="center", fontsize=8, color=INK, labelpad=6
        )
    _legend(figure, axes[0, 0], task, len(drawn), len(examples))
    return figure


def _patches(
    example: dict[str, Tensor], node: int, hidden: NDArray[np.bool_], shape: tuple[int, ...]
) -> NDArray[np.floating]:
    """What was predicted of a node, ``[P, L]``; NaN where it shows its signal."""
    out = np.full(shape, np.nan, dtype=np.float32)
    out[hidden] = example["predicted"][example["nodes"] == node].float().numpy()
    return out


def _panel(axis: Any, truth: NDArray[np.floating], hidden: NDArray[np.bool_], predicted: NDArray[np.floating]) -> None:
    patches, length = truth.shape
    time = np.arange(patches * length)
    shown = np.where(hidden[:, None], np.nan, truth).ravel()
    for patch in np.flatnonzero(hidden):
        axis.axvspan(patch * length - 0.5, (patch + 1) * length - 0.5, color=HIDDEN, lw=0, zorder=0)
    axis.plot(time, truth.ravel(), color=_TRUE, lw=1.1, zorder=2, label="true")
    axis.plot(time, shown, color=INK, lw=1.3, zorder=3, label="visible")
    axis.plot(time, predicted.ravel(), color=BEST, lw=1.3, zorder=4, label="predicted")
    # A model that is far off must not flatten the signal that it missed.
    low, high = float(truth.min()), float(truth.max())
    room = 0.15 * max(high - low, 1e-6)
    axis.set_ylim(low - room, high + room)
    axis.set_xlim(-0.5, len(time) - 0.5)
    axis.set_yticks([0.0], [""])
    axis.grid(axis="y", color=GRID, lw=0.8, zorder=1)
    axis.tick_params(length=0, labelsize=8, colors=MUTED)
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)


def _legend(figure: Figure, axis: Any, task: FMRITask, drawn: int, models: int) -> None:
    handles, labels = axis.get_legend_handles_labels()
    few = "" if drawn == models else f", the best {drawn} of {models} models"
    figure.suptitle(f"{Path(task.data.name).name}: a test window of seed {task.seed}{few}", fontsize=10, color=INK)
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
