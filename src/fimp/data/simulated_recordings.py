"""Simulated recordings of several subjects, as files: what commands on recordings take when they are given a name."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np

from fimp.data.regions import REGION_TABLE
from fimp.errors import FIMPError

#: Name under which commands and readers take the recordings that are made with the defaults.
NAME = "simulated_recordings"


def recordings(folder: str | Path, n_subjects: int = 4, n_regions: int = 40, n_times: int = 400, seed: int = 0) -> Path:
    """Write simulated recordings (:func:`fimp.data.simulate.recording`), one file per subject, and their regions.

    Parameters
    ----------
    folder
        Where ``sub-01.npz`` and so on and ``regions.csv`` are written; files of these names are replaced.
    n_subjects, n_regions, n_times
        Sizes.
    seed
        Seed of everything; subjects share places and connectome.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FIMPError
        If a size is too small, or the folder cannot be written.
    """
    from fimp.data.simulate import recording

    if n_subjects < 1:
        raise FIMPError(f"recordings: n_subjects={n_subjects}, wanted at least 1")
    place = Path(folder).expanduser()
    made = [recording(n_regions, n_times, seed=seed, subject=subject) for subject in range(n_subjects)]
    try:
        place.mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(made, start=1):
            subject = f"sub-{number:02d}"
            np.savez(place / f"{subject}.npz", signal=one.signal, tr=2.0, subject=subject, structural=one.connectome)
        with (place / REGION_TABLE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["index", "name", "x", "y", "z"])
            writer.writerows(
                [row, f"region {row}", *(f"{value:.3f}" for value in xyz)] for row, xyz in enumerate(made[0].xyz)
            )
    except OSError as error:
        raise FIMPError(f"{place}: cannot be written ({error.strerror or error}); name another folder") from error
    return place


def folder_of(source: str | Path) -> Path:
    """Path of a source of recordings; for ``simulated_recordings``, that of :func:`recordings` in the user's cache.

    Raises
    ------
    FIMPError
        If the cache cannot be written.
    """
    path = Path(source).expanduser()
    if str(source) != NAME or path.exists():
        return path
    import pooch

    folder = Path(pooch.os_cache("fimp")) / NAME
    if not (folder / REGION_TABLE).is_file():
        temporary = folder.with_name(f".{NAME}.{os.getpid()}")
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            recordings(temporary)
            # Another process may have been quicker.
            if not folder.exists():
                os.replace(temporary, folder)
        except OSError as error:
            raise FIMPError(f"{folder}: cannot be written ({error.strerror}); set XDG_CACHE_HOME") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder
