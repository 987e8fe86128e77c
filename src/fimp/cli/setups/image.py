"""Flags of the task ``image``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fimp.cli.setups.base import Setup
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from fimp.data.image_graph import ImageOptions

Data = Annotated[
    str,
    typer.Option(
        help="A table with columns path, latitude and longitude, a folder of located images, or simulated_images."
    ),
]
Label = Annotated[
    str, typer.Option(help="Column with the class of each image; country is looked up where there is no such column.")
]
SplitBy = Annotated[str | None, typer.Option(help="Column whose values stay together in one part of the split.")]
SamePlace = Annotated[
    str | None, typer.Option(help="Column whose equal values are joined by edges whatever their distance.")
]
Radius = Annotated[float, typer.Option(help="Miles within which images are neighbours.")]
Neighbors = Annotated[int, typer.Option(help="Most neighbours of an image, the nearest.")]
ImageSize = Annotated[int | None, typer.Option(help="Side of the images, in pixels; by default their own, at most 96.")]
PatchSize = Annotated[
    int | None,
    typer.Option(help="Side of the patches of fimp-base, in pixels; by default 16 for 96, and 6 or more to a side."),
]
OnError = Annotated[str, typer.Option(help="A broken image: skip it, or fail.")]


def setup(
    data: Data,
    label: Label = "label",
    split_by: SplitBy = None,
    same_place: SamePlace = None,
    radius_miles: Radius = 10.0,
    neighbors: Neighbors = 8,
    image_size: ImageSize = None,
    patch_size: PatchSize = None,
    on_error: OnError = "skip",
    class_weights: Annotated[str, typer.Option(help="none, or balanced: rare classes weigh more.")] = "none",
) -> Setup:
    """Classify located images (paper table 3)."""
    from fimp.tasks import ImageTaskOptions

    options = read_options(data, label, split_by, same_place, radius_miles, neighbors, image_size, on_error)
    return Setup("image", data, options, ImageTaskOptions(patch_of(patch_size, options), class_weights))


def read_options(
    data: str,
    label: str,
    split_by: str | None,
    same_place: str | None,
    radius_miles: float,
    neighbors: int,
    image_size: int | None,
    on_error: str,
) -> ImageOptions:
    """How the flags say that images are read.

    Raises
    ------
    FIMPError
        If no data is named, or a value is outside its range.
    """
    if not data.strip():
        raise FIMPError("--data: empty; pass a table of images, or a folder")

    from fimp.data.image_graph import ImageOptions
    from fimp.data.images import default_side
    from fimp.data.place_files import read_place_file
    from fimp.data.simulated_images import path_of

    if image_size is None:
        image_size = default_side(read_place_file(path_of(data)).paths)
    return ImageOptions(
        label=label,
        split_by=split_by,
        same_place=same_place,
        radius_miles=radius_miles,
        neighbors=neighbors,
        on_error=on_error,
        image_size=image_size,
    )


def patch_of(patch_size: int | None, options: ImageOptions) -> int:
    """Side of patches, in pixels: as it was given, or one that suits the images."""
    from fimp.data.images import default_patch

    return default_patch(options.image_size) if patch_size is None else patch_size
