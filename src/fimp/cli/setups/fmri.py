"""Flags of the task ``fmri``."""

from __future__ import annotations

from typing import Annotated

import typer

from fimp.cli.setups.base import Setup
from fimp.errors import FIMPError


def setup(
    data: Annotated[
        str,
        typer.Option(
            help="Folder of recordings (.npz, .npy, .csv, .tsv, .mat, .h5; .nii with --atlas), or simulated_recordings."
        ),
    ],
    regions: Annotated[
        str | None, typer.Option(help="Table of regions with columns x, y, z; by default regions.csv beside the data.")
    ] = None,
    atlas: Annotated[
        str | None, typer.Option(help="Label image (.nii, .nii.gz), for recordings that are images of voxels.")
    ] = None,
    window: Annotated[int, typer.Option(help="Volumes of a window.")] = 160,
    patch: Annotated[int, typer.Option(help="Volumes of a patch.")] = 20,
    mask_ratio: Annotated[float, typer.Option(help="Share of a region's patches that are hidden.")] = 0.75,
    masking: Annotated[
        str, typer.Option(help="random patches of every region, blocks of time in all regions, or the future.")
    ] = "random",
    graph: Annotated[str, typer.Option(help="knn on coordinates, functional or structural connectivity.")] = "knn",
    neighbors: Annotated[int, typer.Option(help="Neighbours of a region.")] = 8,
    split: Annotated[str, typer.Option(help="By subject, or by time.")] = "subject",
    detrend: Annotated[bool, typer.Option(help="Remove linear trends from each recording.")] = True,
    band_pass: Annotated[
        tuple[float, float] | None, typer.Option(help="Keep a band of frequencies, in Hz: 0.01 0.1, for instance.")
    ] = None,
    tr: Annotated[float | None, typer.Option(help="Seconds per volume, where files do not say them.")] = None,
) -> Setup:
    """Predict hidden patches of brain recordings (paper table 4).

    Of each of the GNNs there are three rows: hidden patches are filled in by noise, by the mean or by interpolation.
    """
    if not data.strip():
        raise FIMPError("--data: empty; pass a folder of recordings, or simulated_recordings")

    from fimp.data.recording_graph import RecordingOptions
    from fimp.tasks import FMRIOptions

    return Setup(
        "fmri",
        data,
        RecordingOptions(regions, window, patch, graph, neighbors, detrend, atlas, tr, band_pass),
        FMRIOptions(mask_ratio, masking, split),
        "interpolate,gaussian,gcn,fimp-base",
    )
