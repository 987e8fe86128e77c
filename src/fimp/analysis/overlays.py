"""Which patches of its neighbours an image attends to, drawn over them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fimp.analysis.figures import INK, MUTED
from fimp.analysis.stream import EdgeChoice, stream
from fimp.analysis.token_names import patch_side
from fimp.data.masking import EVALUATION
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from fimp.estimators import ImageModel

#: Images that are drawn, and neighbours of each.
_IMAGES, _NEIGHBORS = 4, 4


def patch_maps(
    model: ImageModel, nodes: NDArray[np.int64], choice: EdgeChoice, layer: int | None = None
) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Attention that each patch of a sender gets, along the edges into some images.

    Parameters
    ----------
    model
        A model of images with cross-node attention.
    nodes
        The receiving images.
    choice, layer
        As for :func:`fimp.analysis.stream.stream`.

    Returns
    -------
    dict
        By receiver and sender: mean over the receiver's tokens ``[side, side]``.
    """
    side, found = patch_side(model), {}
    for part in stream(model, model.task, choice, layer=layer, nodes=nodes):
        named = part.sender >= 0
        weight = part.weight.mean(1)
        for row, (sender, receiver) in enumerate(part.edges.t().tolist()):
            found[receiver, sender] = weight[row][named[row]].double().numpy().reshape(side, side)
    return found


def overlay_figure(model: ImageModel, path: Path, choice: EdgeChoice = EdgeChoice(), layer: int | None = None) -> None:
    """Draw some images, and over the neighbours of each the attention that their patches get.

    Parameters
    ----------
    model
        A model of images with cross-node attention.
    path
        PNG to write.
    choice, layer
        As for :func:`fimp.analysis.stream.stream`.

    Raises
    ------
    FIMPError
        If no image has such an edge.
    """
    edges = model.data.edge_index
    candidates = np.unique(edges[1].numpy()) if choice.kind == "neighbors" else np.arange(model.data.num_nodes)
    if choice.receivers is not None:
        candidates = candidates[choice.receivers[candidates]]
    if not len(candidates):
        raise FIMPError("attention: no image has an edge of this choice; choose others with --edges")
    chosen = candidates[np.unique(np.linspace(0, len(candidates) - 1, _IMAGES).round().astype(np.int64))]
    maps = patch_maps(model, chosen, choice, layer)
    pixels, said = model.data.pixels, model.predict()
    senders = {node: sorted(sender for receiver, sender in maps if receiver == node)[:_NEIGHBORS] for node in chosen}
    columns = 1 + max(len(found) for found in senders.values())
    figure = Figure(figsize=(1.75 * columns + 0.9, 1.95 * len(chosen) + 0.5), dpi=150, layout="constrained")
    axes = figure.subplots(len(chosen), columns, squeeze=False)
    # Attention to a patch in units of what each would get if all got alike.
    scaled = {pair: values / max(float(values.mean()), 1e-12) for pair, values in maps.items()}
    top = max([float(values.max()) for values in scaled.values()], default=1.0)
    drawn: Any = None
    for line, node in zip(axes, chosen.tolist(), strict=True):
        for axis in line:
            axis.set_axis_off()
        shown = [node, *senders[node]]
        views = pixels.views(np.array(shown), model.task.side, EVALUATION, model.task.seed)
        line[0].imshow(views[0])
        line[0].set_title(f"says {said[node]}", fontsize=8, color=INK, loc="left")
        for axis, sender, view in zip(line[1:], shown[1:], views[1:], strict=False):
            axis.imshow(view.mean(2), cmap="gray", vmin=0, vmax=255)
            extent = (-0.5, model.task.side - 0.5, model.task.side - 0.5, -0.5)
            values = scaled[node, sender]
            # What is hardly attended to stays as it is.
            alpha = 0.8 * np.clip(values / top, 0.0, 1.0)
            drawn = axis.imshow(values, "YlOrRd", vmin=0.0, vmax=top, alpha=alpha, extent=extent)
            axis.set_title("itself" if sender == node else "neighbour", fontsize=8, color=MUTED, loc="left")
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=axes, shrink=0.6, pad=0.02, aspect=25)
        bar.set_label("attention to a patch, 1 = all alike", fontsize=8, color=MUTED)
        bar.ax.tick_params(length=0, labelsize=7, colors=MUTED)
        bar.outline.set_visible(False)
    figure.savefig(path)
