"""Parcellated brain recordings: a folder of files and a table of regions become one checked collection."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fimp.data.arrow import COORDINATES, is_arrow, read_arrow
from fimp.data.recording_files import READERS, Stored, read_recording_file
from fimp.data.regions import REGION_TABLE, Regions, read_regions, write_regions
from fimp.data.scaling import unusable_regions
from fimp.data.volumes import IMAGES, is_image, read_atlas, read_volumes
from fimp.errors import FIMPError

#: Regions that a note names, and recordings that have one of their own, before it stops.
_NAMED_REGIONS, _NAMED_FILES = 3, 5


@dataclass(frozen=True)
class Recording:
    """One recording, in the units of its file.

    Attributes
    ----------
    name
        Its file.
    subject
        Who was recorded.
    signal
        ``[R, T]``; may hold NaN, which :func:`fimp.data.scaling.centred` takes care of.
    tr
        Seconds per volume, where it is known.
    dataset
        Where it comes from, where that is known.
    structural
        Connections between regions, ``[R, R]`` from row to column or without direction, where they are known.
    """

    name: str
    subject: str
    signal: NDArray[np.floating]
    tr: float | None = None
    dataset: str | None = None
    structural: NDArray[np.floating] | None = None


@dataclass(frozen=True)
class Recordings:
    """Recordings of the same regions.

    Attributes
    ----------
    name
        For messages.
    recordings
        At least one; lengths and repetition times may differ.
    regions
        What the rows of every signal are.
    notes
        Remarks for the user.
    """

    name: str
    recordings: tuple[Recording, ...]
    regions: Regions
    notes: tuple[str, ...] = ()

    @property
    def subjects(self) -> NDArray[np.int64]:
        """The number of each recording's subject, subjects in alphabetical order."""
        codes: NDArray[np.int64] = np.unique([item.subject for item in self.recordings], return_inverse=True)[1]
        return codes


def read_recordings(
    source: str | Path | Sequence[str | Path], regions: str | Path | None = None, atlas: str | Path | None = None
) -> Recordings:
    """Read parcellated recordings and the table of their regions, or images and the atlas that parcellates them.

    Parameters
    ----------
    source
        A folder, a file or several files: .npz, .npy, .csv, .tsv, .mat, .h5 or .hdf5, one recording each
        (:func:`fimp.data.recording_files.read_recording_file`), or with ``atlas`` images of voxels, .nii or .nii.gz
        (:func:`fimp.data.volumes.read_volumes`). Of a folder, files in folders below it are not read, unless they are
        in BrainLM's layout (:func:`fimp.data.arrow.read_arrow`).
        Signals are ``[regions, time]``, or ``[time, regions]`` where the number of regions says so. A file that does
        not name its subject has the one of a name like ``sub-01_run-2``, and is a subject of its own otherwise.
    regions
        Table of regions (:func:`fimp.data.regions.read_regions`); ``regions.csv`` beside the files by default, or what
        BrainLM's layout has. With
        ``atlas``, the table that names its regions (:func:`fimp.data.regions.named_regions`); none by default.
    atlas
        Label image (:func:`fimp.data.volumes.read_atlas`), which says where regions are.

    Raises
    ------
    FIMPError
        If a file is missing or cannot be used, signals do not fit the table, or two files hold the same signal.
    """
    table = None if regions is None else Path(regions).expanduser()
    if atlas is not None:
        return _read_images(source, table, Path(atlas).expanduser())
    if isinstance(source, (str, Path)) and is_arrow(Path(source).expanduser()):
        return _read_arrow(Path(source).expanduser(), table)
    paths, folder, name = _files(source, images=False)
    table = _table(folder / REGION_TABLE if table is None else table, beside=table is None)
    paths = _without(paths, table)
    if not paths:
        raise FIMPError(
            f"{name}: no recordings; wanted files of type {', '.join(READERS)} in the folder itself, or --atlas and "
            f"images ({', '.join(IMAGES)})"
        )
    found = read_regions(table)
    items, turned, square = [], 0, 0
    for path in paths:
        stored = read_recording_file(path)
        signal = _oriented(stored.signal, len(found), path, table)
        turned += signal is not stored.signal
        square += signal.shape[0] == signal.shape[1]
        items.append(_recording(stored, signal, path))
    notes = [f"{turned} files hold [time, regions] and were transposed"] if turned else []
    notes += [f"{square} files have as many volumes as regions; rows were taken for regions"] if square else []
    return _checked(name, items, found, notes)


def _read_arrow(folder: Path, table: Path | None) -> Recordings:
    """A folder in BrainLM's layout; what was split there is put together."""
    regions, stored = read_arrow(folder)
    if table is not None:
        regions = read_regions(_table(table))
    if not stored:
        raise FIMPError(f"{folder}: no recordings; wanted folders with .arrow files beside {COORDINATES}")
    where = folder / COORDINATES if table is None else table
    items = []
    for path, one in stored:
        # Turned first: where there are as many volumes as regions, the layout says [time, regions].
        signal = _oriented(one.signal.T, len(regions), path, where)
        items.append(_recording(one, signal, path))
    return _checked(str(folder), items, regions, ["parts of BrainLM's layout were put together, to be split anew"])


def write_recordings(recordings: Recordings, folder: str | Path) -> Path:
    """Write recordings as :func:`read_recordings` reads them, so that images are parcellated once.

    Parameters
    ----------
    recordings
        From :func:`read_recordings`.
    folder
        A new or empty folder: ``NAME.npz`` for each recording, and ``regions.csv``.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FIMPError
        If the folder holds files or cannot be written.
    """
    place = Path(folder).expanduser()
    try:
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise FIMPError(f"{place}: is not empty; name a new folder")
        # Files of one name come from several folders.
        named = [_bare(Path(item.name)) for item in recordings.recordings]
        for number, (item, name) in enumerate(zip(recordings.recordings, named, strict=True)):
            more = {"tr": item.tr, "dataset": item.dataset, "structural": item.structural}
            content = {key: value for key, value in more.items() if value is not None}
            own = f"{name}_{number}" if named.count(name) > 1 else name
            np.savez(place / f"{own}.npz", signal=item.signal, subject=item.subject, **content)  # type: ignore[arg-type]
        write_regions(recordings.regions, place / REGION_TABLE)
    except OSError as error:
        raise FIMPError(f"{place}: cannot be written ({error.strerror or error}); name another folder") from error
    return place


def _read_images(source: str | Path | Sequence[str | Path], table: Path | None, atlas: Path) -> Recordings:
    """Images of voxels and an atlas."""
    if not atlas.is_file():
        raise FIMPError(f"--atlas: {atlas}: no such file; give a label image (.nii, .nii.gz)")
    if table is not None:
        _table(table)
    paths, _, name = _files(source, images=True)
    paths = _without(paths, atlas)
    if not paths:
        raise FIMPError(f"{name}: no images; with --atlas, wanted {' or '.join(IMAGES)} in the folder itself")
    found = read_atlas(atlas, table)
    items = []
    for path in paths:
        stored = read_volumes(path, found)
        items.append(_recording(stored, _long(stored.signal, path), path))
    note = f"signals are means over the voxels of {len(found.regions)} regions of {atlas.name}"
    return _checked(name, items, found.regions, [note])


def _checked(name: str, items: Sequence[Recording], regions: Regions, notes: Sequence[str]) -> Recordings:
    _check_distinct(items)
    return Recordings(name, tuple(items), regions, (*notes, *_times(items), *_useless(items, regions)))


def _table(path: Path, beside: bool = False) -> Path:
    """The path of a table of regions, which must be there."""
    if not path.is_file():
        where = "beside the recordings" if beside else "there"
        raise FIMPError(
            f"{path}: no table of regions {where}; wanted a .csv file with columns x, y, z and a row per region, "
            f"named {REGION_TABLE} or given by --regions"
        )
    return path


def _without(paths: Sequence[Path], other: Path) -> list[Path]:
    return [path for path in paths if not path.samefile(other)]


def _files(source: str | Path | Sequence[str | Path], images: bool) -> tuple[list[Path], Path, str]:
    """The files to read, the folder where their table of regions is looked for, and what to call them."""
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        if path.is_dir():
            kept = (item for item in path.iterdir() if item.is_file() and not item.name.startswith("."))
            files = sorted(item for item in kept if _is_read(item, images) and item.name != REGION_TABLE)
            return files, path, str(source)
        source, name = [source], str(source)
    else:
        name = f"{len(source)} files"
    files = [Path(item).expanduser() for item in source]
    for path in files:
        if not path.is_file():
            raise FIMPError(f"{path}: no such file; give a folder or files of recordings")
        if not _is_read(path, images):
            wanted = f"with --atlas, wanted {' or '.join(IMAGES)}" if images else f"wanted {', '.join(READERS)}"
            if is_image(path):
                wanted = "an image of voxels needs a label image that says where regions are; give it by --atlas"
            raise FIMPError(f"{path}: files of type {path.suffix!r} are not read; {wanted}")
    return files, files[0].parent if files else Path(), name


def _is_read(path: Path, images: bool) -> bool:
    return is_image(path) if images else path.suffix.lower() in READERS


def _oriented(signal: NDArray[np.floating], regions: int, path: Path, table: Path) -> NDArray[np.floating]:
    """The signal as ``[R, T]``; the same array where it was."""
    rows, columns = signal.shape
    if regions not in (rows, columns):
        raise FIMPError(
            f"{path}: signal has shape [{rows}, {columns}], wanted [{regions}, time], as {table} has {regions} "
            "regions; give the table of this parcellation, or move the file elsewhere if it is no recording"
        )
    signal = signal if rows == regions else signal.T
    return _long(signal, path)


def _long(signal: NDArray[np.floating], path: Path) -> NDArray[np.floating]:
    """A signal, which must have more than one volume."""
    if signal.shape[1] < 2:
        raise FIMPError(f"{path}: signal has {signal.shape[1]} volumes, wanted a recording; move it elsewhere")
    return signal


def _recording(stored: Stored, signal: NDArray[np.floating], path: Path) -> Recording:
    """A recording with the subject that its file, or the file's name in the manner of BIDS, tells."""
    named = re.match(r"sub-[A-Za-z0-9]+", path.stem)
    subject = stored.subject or (named[0] if named else _bare(path))
    links = stored.structural
    if links is not None and len(links) != len(signal):
        raise FIMPError(
            f"{path}: structural has {len(links)} regions and signal {len(signal)}, wanted equally many; correct or "
            "remove it"
        )
    return Recording(str(path), subject, signal, stored.tr, stored.dataset, links)


def _bare(path: Path) -> str:
    """A file's name without its ending."""
    return path.stem.removesuffix(".nii") if is_image(path) else path.stem


def _check_distinct(items: Sequence[Recording]) -> None:
    """A recording that is there twice could be in two parts of a split."""
    seen: dict[tuple[int, ...], Recording] = {}
    for item in items:
        # Files may differ in precision, as copies in text do; what is no number compares as zero does.
        key = (*item.signal.shape, hash(np.nan_to_num(item.signal[:, :64].astype(np.float32)).tobytes()))
        if key in seen and np.allclose(item.signal, seen[key].signal, rtol=1e-6, atol=0.0, equal_nan=True):
            raise FIMPError(f"{item.name}: holds the same signal as {seen[key].name}; remove one of them")
        seen[key] = item


def _times(items: Sequence[Recording]) -> list[str]:
    """A remark on repetition times where they differ."""
    times = sorted({item.tr for item in items if item.tr is not None})
    if len(times) < 2:
        return []
    return [f"repetition times differ ({', '.join(f'{tr:g}' for tr in times[:5])} s); signals are not resampled"]


def _useless(items: Sequence[Recording], regions: Regions) -> list[str]:
    """A remark on every recording with regions that say nothing."""
    notes = []
    for item in items:
        rows = np.flatnonzero(unusable_regions(item.signal))
        if len(rows) == len(regions):
            raise FIMPError(f"{item.name}: all regions are constant or have NaN, wanted a signal; remove the file")
        if len(rows):
            names = ", ".join(regions.names[row] for row in rows[:_NAMED_REGIONS])
            more = " ..." if len(rows) > _NAMED_REGIONS else ""
            file = Path(item.name).name
            notes.append(f"{file}: {len(rows)} regions, constant or with NaN, count as zero ({names}{more})")
    left = len(notes) - _NAMED_FILES
    return [*notes[:_NAMED_FILES], *([f"{left} more recordings have such regions"] if left > 0 else [])]
