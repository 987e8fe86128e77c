"""Graphs of located images, decoded and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.utils import subgraph

from fimp.data.pixels import read_pixels, with_margin
from fimp.data.place_labels import PlaceReference
from fimp.data.places import PlaceOptions, read_places
from fimp.data.simulated_images import path_of
from fimp.errors import FIMPError


@dataclass(frozen=True)
class ImageOptions(PlaceOptions):
    """How located images are read: as places (:class:`fimp.data.places.PlaceOptions`), and at which size.

    Attributes
    ----------
    image_size
        Side of the squares that models see, in pixels.

    Raises
    ------
    FIMPError
        If ``image_size`` is below 8.
    """

    image_size: int = 96

    def __post_init__(self) -> None:
        if self.image_size < 8:
            raise FIMPError(f"--image-size: {self.image_size} is below 8; use 96, for instance")


def read_images(
    source: str | Path, options: ImageOptions = ImageOptions(), reference: PlaceReference | None = None
) -> Data:
    """Read located images into a graph.

    Parameters
    ----------
    source
        As for :func:`fimp.data.places.read_places`, or ``simulated_images``.
    options, reference
        How, and for which model, as there.

    Returns
    -------
    Data
        That of :func:`fimp.data.places.read_places` without the images that cannot be decoded, and with ``pixels``, a
        :class:`fimp.data.pixels.Pixels`, and the ``image_size``.

    Raises
    ------
    FIMPError
        As these, and :func:`fimp.data.pixels.read_pixels`.
    """
    data = read_places(path_of(source), options, reference)
    pixels = read_pixels(data.paths, with_margin(options.image_size), options.on_error)
    if pixels.broken:
        data = _part(data, torch.from_numpy(pixels.kept))
        data.notes = [*data.notes, f"{len(pixels.broken)} images left out, the first: {pixels.broken[0]}"]
    data.pixels, data.image_size = pixels, options.image_size
    return data


def _part(data: Data, kept: torch.Tensor) -> Data:
    """The nodes that are kept, and the edges between them."""
    count, out = data.num_nodes, data.clone()
    out.edge_index = subgraph(kept, data.edge_index, relabel_nodes=True, num_nodes=count)[0]
    for name, value in data.to_dict().items():
        if name == "edge_index":
            continue
        if isinstance(value, torch.Tensor) and value.dim() and len(value) == count:
            out[name] = value[kept]
        elif isinstance(value, np.ndarray) and len(value) == count:
            out[name] = value[kept.numpy()]
        elif name == "paths":
            out[name] = [value[index] for index in kept.tolist()]
    out.num_nodes = len(kept)
    return out
