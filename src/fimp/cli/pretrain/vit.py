"""``fimp pretrain vit``: a vision transformer from images without labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fimp.cli.compare import BatchSize, Device, Precision, Shard
from fimp.cli.pretrain import running
from fimp.cli.setups.image import ImageSize

if TYPE_CHECKING:
    from fimp.train.fit import Fitted


def vit(
    data: Annotated[
        Path, typer.Option(help="A folder of images, a .csv or .tsv table with a column 'path', or simulated_images.")
    ],
    out: running.Out,
    image_size: ImageSize = None,
    patch_size: Annotated[
        int | None, typer.Option(help="Side of the patches, in pixels; by default 16 for 96, and 6 or more to a side.")
    ] = None,
    mask_ratio: Annotated[float, typer.Option(help="Share of patches that are hidden.")] = 0.75,
    on_error: Annotated[str, typer.Option(help="A broken image: skip it, or fail.")] = "skip",
    dim: running.Dim = 128,
    layers: running.Layers = 4,
    heads: running.Heads = 4,
    hidden: running.Hidden = 256,
    decoder_dim: Annotated[int, typer.Option(help="Width of the decoder.")] = 64,
    decoder_layers: Annotated[int, typer.Option(help="Layers of the decoder.")] = 2,
    dropout: running.Dropout = 0.0,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the images; by default 60 (300 to 800 steps).")
    ] = None,
    lr: running.LearningRate = 1e-3,
    batch_size: BatchSize = 256,
    seed: running.Seed = 0,
    device: Device = "auto",
    precision: Precision = "32",
    shard: Shard = False,
) -> None:
    """Pretrain a vision transformer by predicting hidden patches of images (ViT-MAE, arXiv 2111.06377).

    Writes config.json, preprocessor_config.json and model.safetensors, which the transformers library opens, too, and
    how training went (pretraining.csv and .png). An interrupted command goes on where it stopped when given again.
    """
    running.check(out, lr, seed, shard)

    from fimp.data.images import default_patch, default_side, find_images
    from fimp.data.pixels import read_pixels
    from fimp.foundation.vit_mae import save_vit_mae
    from fimp.train.foundation.vit import ViTSize, pretrain_vit
    from fimp.train.options import TrainOptions

    train = TrainOptions(epochs=epochs, batch_size=batch_size, device=device, precision=precision, shard=shard)
    paths = find_images(data)
    side = default_side(paths) if image_size is None else image_size
    patch = default_patch(side) if patch_size is None else patch_size
    size = ViTSize(side, patch, dim, layers, heads, hidden, decoder_dim, decoder_layers, mask_ratio, dropout)
    with running.bar("reading images") as listener:
        pixels = read_pixels(paths, size.decoded, on_error, lambda share: listener(share, ""))
    notes = [f"{len(pixels.broken)} images left out, the first: {pixels.broken[0]}"] if pixels.broken else []

    def run(folder: Path, **arguments: Any) -> tuple[running.Save, Fitted]:
        model, fitted = pretrain_vit(pixels, size, train, seed, lr, folder, **arguments)
        return lambda place: save_vit_mae(model, place), fitted

    given = {"images": pixels.file.name, "size": vars(size), "train": vars(train), "lr": lr, "seed": seed}
    running.pretrain(out, given, f"{data}: {len(pixels):,} images", notes, run)
