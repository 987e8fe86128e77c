"""Simulated recordings of several subjects, as files: what commands on recordings take when they are given a name."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fimp.data.regions import REGION_TABLE
from fimp.errors import FIMPError

#: Name under which commands and readers take the recordings that are made with the defaults.
NAME = "simulated_recordings"
#: Folder of tables beside recordings, where nobody takes them for recordings.
TABLES = "tables"


def recordings(
    folder: str | Path,
    n_subjects: int = 4,
    n_regions: int = 40,
    n_times: int = 400,
    seed: int = 0,
    bond: float | None = None,
) -> Path:
    """Write simulated recordings (:func:`fimp.data.simulate.recording`), one file per subject, and their regions.

    Parameters
    ----------
    folder
        Where ``sub-01.npz`` and so on and ``regions.csv`` are written; files of these names are replaced.
    n_subjects, n_regions, n_times
        Sizes.
    seed
        Seed of everything; subjects share places and connectome.
    bond
        What every second subject's connectome has more (:func:`fimp.data.simulate.recording`). Then
        ``tables/subjects.csv`` has who is in which group, ``bonded`` or ``plain``, and ``tables/networks.csv`` which
        regions are ``left``, ``right`` or in the ``middle``. At 0 groups differ in name alone.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FIMPError
        If a size is too small, or the folder cannot be written.
    """
    from fimp.data.simulate import recording, sides

    if n_subjects < 1:
        raise FIMPError(f"recordings: n_subjects={n_subjects}, wanted at least 1")
    place = Path(folder).expanduser()
    made = [
        recording(n_regions, n_times, seed=seed, subject=subject, bond=(subject % 2) * (bond or 0.0))
        for subject in range(n_subjects)
    ]
    subjects = [f"sub-{number:02d}" for number in range(1, n_subjects + 1)]
    try:
        place.mkdir(parents=True, exist_ok=True)
        for subject, one in zip(subjects, made, strict=True):
            np.savez(place / f"{subject}.npz", signal=one.signal, tr=2.0, subject=subject, structural=one.connectome)
        with (place / REGION_TABLE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["index", "name", "x", "y", "z"])
            writer.writerows(
                [row, f"region {row}", *(f"{value:.3f}" for value in xyz)] for row, xyz in enumerate(made[0].xyz)
            )
        if bond is not None:
            groups = [("bonded" if number % 2 else "plain") for number in range(n_subjects)]
            networks = [(f"region {row}", side) for row, side in enumerate(sides(made[0].xyz))]
            _write_table(place / TABLES / "subjects.csv", ["subject", "group"], zip(subjects, groups, strict=True))
            _write_table(place / TABLES / "networks.csv", ["region", "network"], networks)
    except OSError as error:
        raise FIMPError(f"{place}: cannot be written ({error.strerror or error}); name another folder") from error
    return place


def _write_table(path: Path, titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(titles)
        writer.writerows(rows)


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
