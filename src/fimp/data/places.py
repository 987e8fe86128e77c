"""Located images: a table, Mapillary's metadata or a folder becomes a graph of places. Images are not decoded here."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Data

from fimp.data.columns import Coded, listed
from fimp.data.geography import geographic_graph, unit_vectors
from fimp.data.images import gps_position
from fimp.data.node_checks import MASKS, check_masks
from fimp.data.place_files import PARTS, PlaceTable, column_named, read_place_file
from fimp.data.place_labels import PlaceReference, codes_of, has_values, known_labels, new_labels
from fimp.errors import FIMPError

_LATITUDE = ("latitude", "lat")
_LONGITUDE = ("longitude", "lon", "lng", "long")
#: What stands in tables for a coordinate that is missing.
_MISSING = ("", "na", "n/a", "nan", "null", "none")


@dataclass(frozen=True)
class PlaceOptions:
    """How located images are read.

    Attributes
    ----------
    label
        Column of classes; ``country`` is looked up from coordinates where there is no such column
        (:func:`fimp.data.countries.countries`). None reads images without labels.
    split_by
        Column whose values stay together in one part of the split, such as a region.
    same_place
        Column that names the place of each image. Images of one place are joined whatever the radius, and stay
        together in the split.
    radius_miles
        Greatest distance of neighbours.
    neighbors
        Most neighbours of an image.
    on_error
        What to do with an image that has no coordinates or is not there: ``skip`` it, or ``fail``.
    """

    label: str | None = "label"
    split_by: str | None = None
    same_place: str | None = None
    radius_miles: float = 10.0
    neighbors: int = 8
    on_error: str = "skip"


def read_places(
    source: str | Path, options: PlaceOptions = PlaceOptions(), reference: PlaceReference | None = None
) -> Data:
    """Read located images as a graph of neighbours on the globe.

    The graph is made of coordinates and places alone; labels have no part in it.

    Parameters
    ----------
    source
        Table, metadata or folder (:func:`fimp.data.place_files.read_place_file`), with columns ``latitude`` (or
        ``lat``) and ``longitude`` (``lon``, ``lng``) in degrees. Where they are missing, EXIF data of the image tell.
        A column ``split`` with ``train``, ``val`` and ``test`` is a published split.
    options
        How to read it.
    reference
        What a trained model fixes (``data.reference`` of what it was trained on): then labels are its classes, and
        neither labels nor places need be there; ``split_by`` and a published split are of no effect.

    Returns
    -------
    Data
        N images, with

        - ``edge_index``: ``[2, E]`` int64 (:func:`fimp.data.geographic_graph`)
        - ``pos``: unit vectors ``[N, 3]`` float32; ``latitude``, ``longitude``: degrees ``[N]`` float64
        - ``y``: classes ``[N]`` int64, -1 = unlabelled; ``num_classes`` and ``class_names``
        - ``paths``: N files
        - ``groups``, ``places``: numbers of the values of ``split_by`` and ``same_place`` ``[N]`` int64, -1 = no value;
          absent (``data.get`` gives None) where no column was named
        - ``train_mask``, ``val_mask``, ``test_mask``: ``[N]`` bool, where a split is published
        - ``reference``: what a model trained on it needs to read other images
        - ``name``, ``notes``: a name, and remarks for the user

    Raises
    ------
    FIMPError
        For anything that cannot be used.
    """
    if options.on_error not in ("skip", "fail"):
        raise FIMPError(f"--on-error: {options.on_error!r} is unknown; use skip or fail")
    table = read_place_file(source)
    where, missing, notes = _coordinates(table)
    keep, left_out = _usable(table, missing, options.on_error)
    paths = [table.paths[row] for row in keep]
    latitude, longitude = where[:, keep]
    same_place, groups = options.same_place, None
    masks: dict[str, torch.Tensor] = {}
    if reference is None:
        y, class_names, remarks = new_labels(table, options.label, keep, where[:, keep])
        groups = codes_of(table, options.split_by, "--split-by", keep)
        masks, unscored = _masks(table, keep, y)
        remarks += unscored
    else:
        y, class_names, remarks = known_labels(table, options.label, keep, reference)
        if same_place is not None and not has_values(table, same_place, keep):
            remarks.append(f"no {same_place!r} here: images of one place are joined where they are near, as all are")
            same_place = None
    places = codes_of(table, same_place, "--same-place", keep)
    if masks and places is not None:
        remarks += _torn(masks, places)
    edges = geographic_graph(
        latitude, longitude, options.radius_miles, options.neighbors, None if places is None else _named(places)
    )
    notes = [*table.notes, *notes, *left_out]
    options = replace(options, same_place=same_place)
    notes += [*remarks, *_place_notes(where[:, keep], paths, edges[1].numpy(), options)]
    return Data(
        edge_index=edges,
        pos=torch.from_numpy(unit_vectors(latitude, longitude).astype(np.float32)),
        y=torch.from_numpy(y),
        num_nodes=len(keep),
        num_classes=len(class_names),
        class_names=class_names,
        paths=paths,
        latitude=torch.from_numpy(latitude),
        longitude=torch.from_numpy(longitude),
        groups=None if groups is None else torch.from_numpy(groups.codes),
        places=None if places is None else torch.from_numpy(places.codes),
        reference=PlaceReference(tuple(class_names)),
        name=table.name,
        notes=notes,
        **masks,
    )


def _coordinates(table: PlaceTable) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[str]]:
    """Degrees ``[2, N]``, which of them are missing even in EXIF data ``[N]``, and notes."""
    where = np.full((2, len(table.paths)), np.nan)
    used = []
    for axis, (names, high) in enumerate(((_LATITUDE, 90.0), (_LONGITUDE, 360.0))):
        column = column_named(table.columns, names, table.name)
        if column is not None:
            used.append(column)
            where[axis] = _degrees(table.columns[column], column, high, table.name)
    notes = [f"coordinates from columns {used[0]!r} and {used[1]!r}"] if len(used) == 2 else []
    missing = np.isnan(where).any(axis=0)
    found = 0
    for row in np.flatnonzero(missing):
        position = gps_position(table.paths[row])
        if position is not None:
            where[:, row], missing[row] = position, False
            found += 1
    if found:
        notes.append(f"coordinates of {found:,} images from their EXIF data")
    if missing.all():
        raise FIMPError(
            f"{table.name}: no image has coordinates (columns: {listed(table.columns) or 'none'}; none in EXIF data "
            "either); wanted columns latitude and longitude in degrees"
        )
    return where, missing, notes


def _degrees(cells: Sequence[str], column: str, high: float, name: str) -> NDArray[np.float64]:
    low = -min(high, 180.0)
    values = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        if cell.lower() in _MISSING:
            continue
        with contextlib.suppress(ValueError):  # NaN stays, which is in no range
            values[row] = float(cell)
        if not low <= values[row] <= high:
            raise FIMPError(
                f"{name}: column {column!r} has {cell[:40]!r} in row {row + 1}, wanted degrees from {low:g} to "
                f"{high:g}; correct it or leave it empty"
            )
    return values


def _usable(table: PlaceTable, missing: NDArray[np.bool_], on_error: str) -> tuple[NDArray[np.int64], list[str]]:
    """Rows with coordinates and an image, and a note for every reason to leave some out."""
    lost = np.array([not path.is_file() for path in table.paths])
    notes = []
    for bad, what, remedy in (
        (lost, "is not there", "paths are relative to the file that lists them"),
        (missing & ~lost, "has no coordinates, in EXIF data neither", "add latitude and longitude"),
    ):
        if not bad.any():
            continue
        first = table.paths[int(np.flatnonzero(bad)[0])]
        if on_error == "fail":
            raise FIMPError(
                f"{table.name}: {first} {what} ({int(bad.sum()):,} such images); {remedy}, or leave them out by "
                "--on-error skip"
            )
        notes.append(f"left out {int(bad.sum()):,} of {len(bad):,} images, as each {what}; the first is {first}")
    keep = np.flatnonzero(~(lost | missing))
    if not len(keep):
        raise FIMPError(f"{table.name}: no image is left; {notes[0]}; paths are relative to the file that lists them")
    return keep, notes


def _named(places: Coded) -> NDArray[np.object_]:
    """Places by name, None where there is none."""
    return np.array([*places.names, None], dtype=object)[places.codes]


def _masks(
    table: PlaceTable, keep: NDArray[np.int64], y: NDArray[np.int64]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Masks ``[N]`` of a published split, none where there is none, and notes."""
    column = column_named(table.columns, ("split",), table.name)
    if column is None or not any(table.columns[column]):
        return {}, []
    cells = [table.columns[column][row].lower() for row in keep]
    if strange := sorted({cell for cell in cells if cell and cell not in PARTS}):
        raise FIMPError(
            f"{table.name}: column {column!r} has {strange[0]!r}, wanted train, val or test; rename its values, or the "
            "column if it is no split"
        )
    if not (y >= 0).any():
        return {}, []
    part = np.array([PARTS.get(cell, "") for cell in cells])
    found = {name: (part == name.removesuffix("_mask")) & (y >= 0) for name in MASKS}
    keys = {name: f"{name.removesuffix('_mask')} of column {column!r}" for name in MASKS}
    checked = check_masks(dict(found), y, table.name, keys)
    sizes = "/".join(f"{int(mask.sum()):,}" for mask in found.values())
    notes = [f"one published split (column {column!r}, {sizes} images), the same for every seed"]
    if left := int(((part == "") & (y >= 0)).sum()):
        notes.append(f"{left:,} labelled images are in no part of the published split: they send messages only")
    return {name: torch.from_numpy(mask[0]) for name, mask in checked.items()}, notes


def _torn(masks: dict[str, torch.Tensor], places: Coded) -> list[str]:
    """A remark on places that a published split divides."""
    parts = [np.unique(places.codes[mask.numpy() & (places.codes >= 0)]) for mask in masks.values()]
    torn = int((np.unique(np.concatenate(parts), return_counts=True)[1] > 1).sum())
    return [f"{torn:,} places have images in several parts of the published split: a label may leak"] if torn else []


def _place_notes(
    where: NDArray[np.float64], paths: list[Path], receivers: NDArray[np.int64], options: PlaceOptions
) -> list[str]:
    """Remarks on the graph, and on rows that look like mistakes."""
    count = len(paths)
    joined = "" if options.same_place is None else f", rows of one {options.same_place!r} joined"
    notes = [
        f"graph: up to {options.neighbors} nearest images within {options.radius_miles:g} miles{joined}; "
        f"{len(receivers) / count:.1f} neighbours on average"
    ]
    if alone := count - len(np.unique(receivers)):
        notes.append(f"{alone:,} images have no neighbour within the radius")
    if nowhere := int((where == 0.0).all(axis=0).sum()):
        notes.append(f"{nowhere:,} images lie at exactly 0 N 0 E, which often stands for no position")
    if repeated := count - len(set(paths)):
        notes.append(f"{repeated:,} rows name an image that an earlier row names too")
    return notes
