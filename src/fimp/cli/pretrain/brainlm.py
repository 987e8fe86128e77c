"""``fimp pretrain brainlm``: a model in BrainLM's layout from recordings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fimp.cli.compare import Device, Precision, Shard
from fimp.cli.pretrain import running

if TYPE_CHECKING:
    from fimp.data.recordings import Recordings
    from fimp.train.fit import Fitted


def brainlm(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of recordings (.npz, .npy, .mat, .h5, .csv, .tsv; .nii with --atlas), a file, or "
            "simulated_recordings."
        ),
    ],
    out: running.Out,
    regions: Annotated[
        Path | None, typer.Option(help="Table of regions with columns x, y, z; by default regions.csv beside the data.")
    ] = None,
    atlas: Annotated[
        Path | None, typer.Option(help="Label image (.nii, .nii.gz), for recordings that are images of voxels.")
    ] = None,
    window: Annotated[int, typer.Option(help="Volumes of a window.")] = 160,
    patch: Annotated[int, typer.Option(help="Volumes of a token.")] = 20,
    mask_ratio: Annotated[float, typer.Option(help="Share of a window's tokens that are hidden.")] = 0.75,
    detrend: Annotated[bool, typer.Option(help="Remove linear trends from each recording.")] = True,
    dim: running.Dim = 64,
    layers: running.Layers = 4,
    heads: running.Heads = 4,
    hidden: running.Hidden = 128,
    dropout: running.Dropout = 0.0,
    epochs: running.Epochs = None,
    lr: running.LearningRate = 1e-3,
    batch_size: Annotated[int, typer.Option(help="Windows per training step.")] = 16,
    seed: running.Seed = 0,
    device: Device = "auto",
    precision: Precision = "32",
    shard: Shard = False,
) -> None:
    """Pretrain a model in BrainLM's layout on recordings, all regions at once, by filling in hidden patches.

    Writes config.json, pytorch_model.bin, scaling.json (median and inter-quartile range of each region), and how
    training went (pretraining.csv and .png). An interrupted command goes on where it stopped when it is given again.
    """
    running.check(out, lr, seed, shard)

    from fimp.data.recordings import read_recordings
    from fimp.data.simulated_recordings import folder_of
    from fimp.foundation.brainlm_files import save_brainlm
    from fimp.train.foundation.brainlm import BrainLMPretraining, BrainLMSize, train_brainlm
    from fimp.train.foundation.windows import WindowOptions
    from fimp.train.options import TrainOptions

    size = BrainLMSize(dim, layers, heads, hidden, dropout)
    options = WindowOptions(window, patch, mask_ratio, detrend)
    train = TrainOptions(epochs=epochs, batch_size=batch_size, device=device, precision=precision, shard=shard)
    recordings = read_recordings(folder_of(data), regions, atlas)
    task = BrainLMPretraining(recordings, size, options, seed)

    def run(folder: Path, **arguments: Any) -> tuple[running.Save, Fitted]:
        model, fitted = train_brainlm(task, train, lr, folder, **arguments)
        return lambda place: save_brainlm(model, place), fitted

    given = {
        "data": data,
        "regions": regions,
        "atlas": atlas,
        "size": vars(size),
        "windows": vars(options),
        "train": vars(train),
    }
    notes = [*recordings.notes, *task.windows.notes]
    running.pretrain(out, {**given, "lr": lr, "seed": seed}, _said(recordings), notes, run)


def _said(recordings: Recordings) -> str:
    items = recordings.recordings
    lengths = sorted({item.signal.shape[1] for item in items})
    volumes = f"{lengths[0]:,} to {lengths[-1]:,}" if len(lengths) > 1 else f"{lengths[0]:,}"
    subjects = len({item.subject for item in items})
    return (
        f"{recordings.name}: {len(items):,} recordings of {subjects:,} subjects, {len(recordings.regions)} regions, "
        f"{volumes} volumes"
    )
