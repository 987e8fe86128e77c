"""Flags of the task ``zeroshot``."""

from __future__ import annotations

from typing import Annotated

import typer

from fimp.cli.setups import image
from fimp.cli.setups.base import Setup

ImageSize = Annotated[
    int | None,
    typer.Option(help="Side of the images, in pixels; by default that of --vit, or their own and at most 96."),
]


def setup(
    data: image.Data,
    vit: Annotated[
        str | None, typer.Option(help="Folder of a vision transformer: compares mean, sage, fm:FOLDER and fimp:FOLDER.")
    ] = None,
    label: image.Label = "label",
    split_by: image.SplitBy = None,
    same_place: image.SamePlace = None,
    radius_miles: image.Radius = 10.0,
    neighbors: image.Neighbors = 8,
    image_size: ImageSize = None,
    patch_size: image.PatchSize = None,
    on_error: image.OnError = "skip",
    embeddings: Annotated[int, typer.Option(help="Images that are embedded, at most.")] = 400,
    share: Annotated[float, typer.Option(help="Share of them that a linear classifier is fitted on.")] = 0.7,
) -> Setup:
    """Embed located images without training, and fit a linear classifier on the embeddings (paper table 3)."""
    from fimp.tasks import ZeroShotOptions

    if image_size is None and vit is not None:
        image_size = _side(vit)
    options = image.read_options(data, label, split_by, same_place, radius_miles, neighbors, image_size, on_error)
    models = "mean,sage" if vit is None else f"mean,sage,fm:{vit},fimp:{vit}"
    task = ZeroShotOptions(image.patch_of(patch_size, options), embeddings=embeddings, share=share)
    return Setup("zeroshot", data, options, task, models)


def _side(folder: str) -> int | None:
    """Side of the images that a vision transformer was trained on; None for other models, which are refused later."""
    from fimp.foundation import load
    from fimp.foundation.vit import ViT

    model = load(folder)
    return min(model.image_size) if isinstance(model, ViT) else None
