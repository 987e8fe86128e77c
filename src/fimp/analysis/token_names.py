"""What rows and columns of a model's attention are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fimp.data.cell_graph import CellGraph
from fimp.errors import FIMPError
from fimp.estimators import CellModel, ExpressionModel, GraphModel, ImageModel, NodeModel, RecordingModel
from fimp.foundation.vit_images import ImageReader
from fimp.tasks.attention import EdgeAttention
from fimp.tasks.classification import ClassificationNetwork
from fimp.tasks.fmri import FMRITask
from fimp.tasks.foundation import FoundationClassificationNetwork
from fimp.tokenizers.grouped import GroupedEncoder


class TokenNames(NamedTuple):
    """Names of rows and columns, and how edges are sorted into them.

    Attributes
    ----------
    rows, columns
        Names, R and C of them.
    what
        What a mean of attention is, in words.
    row_of, column_of
        Row of each receiving node, and column of each sending one, ``[N]``, where it is nodes that have them; None
        where tokens have.
    """

    rows: list[str]
    columns: list[str]
    what: str
    row_of: Tensor | None = None
    column_of: Tensor | None = None

    def sort(self, part: EdgeAttention) -> EdgeAttention:
        """Attention along edges between nodes of the whole graph, with these rows and columns."""
        receiver, sender = part.receiver, part.sender
        if self.row_of is not None:
            receiver = self.row_of[part.edges[1]][:, None].expand_as(receiver)
        if self.column_of is not None:
            sender = self.column_of[part.edges[0]][:, None].expand_as(sender)
        return part._replace(receiver=receiver, sender=sender)


def token_names(model: GraphModel, task: Any, groups: dict[str, str] | None = None) -> TokenNames:
    """Names of the rows and columns of a model's attention.

    Parameters
    ----------
    model
        A trained model.
    task
        Its task on the data that is looked at.
    groups
        The network of each region, to sum up recordings by.

    Raises
    ------
    FIMPError
        If groups are given and nodes are no regions.
    """
    if isinstance(model, RecordingModel):
        return _regions(task, groups)
    if groups is not None:
        raise FIMPError(f"--group-by: groups regions of recordings, and these are {model.nodes}; leave it out")
    columns = _columns(model)
    if isinstance(model.network, ClassificationNetwork) and isinstance(model, (CellModel, ImageModel, NodeModel)):
        count = len(model.network.log_prior)
        rows = getattr(model, "classes", None) or [f"class {code}" for code in range(count)]
        predicted = torch.from_numpy(model.predict_proba().argmax(1))  # type: ignore[union-attr]
        kind = "gene" if isinstance(model, CellModel) else "patch" if isinstance(model, ImageModel) else "feature"
        what = f"attention of the question which class a node is to each {kind} of the sender, by predicted class"
        return TokenNames(list(rows), columns, what, row_of=predicted)
    hidden = "hidden " if isinstance(model, ExpressionModel) else ""
    kind = "patch" if isinstance(model, ImageModel) else "gene"
    return TokenNames(columns, columns, f"attention of a {hidden}{kind} of the receiver to a {kind} of the sender")


def _columns(model: GraphModel) -> list[str]:
    """Names of the tokens that nodes send."""
    data = model.data
    if isinstance(data, CellGraph):
        return list(data.gene_names)
    if isinstance(model, ImageModel):
        side = patch_side(model)
        return [f"row {row} column {column}" for row in range(1, side + 1) for column in range(1, side + 1)]
    encoder = getattr(model.network, "encoder", None)
    if isinstance(encoder, GroupedEncoder):
        return [f"group {index}" for index in range(len(encoder.tokenizer.group))]
    return [f"feature {index}" for index in range(model.task.num_features)]


def patch_side(model: ImageModel) -> int:
    """Patches in a row of an image, as the model cuts them."""
    if isinstance(model.network, FoundationClassificationNetwork):
        reader = model.network.reader
        assert isinstance(reader, ImageReader)
        return int(model.task.side // reader.model.patch_size[0])
    return int(model.task.side // model.task.options.patch_size)


def _regions(task: FMRITask, groups: dict[str, str] | None) -> TokenNames:
    names = list(task.region_names)
    region = np.arange(task.data.num_nodes) % task.regions
    what = "share of what a region hears that comes from another"
    if groups is None:
        place = torch.from_numpy(region)
        return TokenNames(names, names, what, place, place)
    missing = [name for name in names if name not in groups]
    if missing:
        raise FIMPError(
            f"--group-by: no network for region {missing[0]!r} ({len(missing)} of {len(names)} are missing); add a row "
            "for every region"
        )
    networks = list(dict.fromkeys(groups[name] for name in names))
    code = np.array([networks.index(groups[name]) for name in names])
    place = torch.from_numpy(code[region])
    return TokenNames(networks, networks, f"{what}, mean over pairs of regions of two networks", place, place)
