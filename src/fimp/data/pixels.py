"""Decoded images in a file: memory holds those that are asked for, whatever their number."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fimp.data.hashing import hash_uniform
from fimp.data.images import decode_all
from fimp.data.masking import EVALUATION
from fimp.errors import FIMPError

#: What to do with a file that is no image.
ON_ERROR = ("skip", "fail")
#: Counts up when images are decoded otherwise than before, so that older files are not used.
_VERSION = 1
#: Images whose colours are measured.
_MEASURED = 4096
#: Images between two reports.
_REPORT = 256


@dataclass(frozen=True)
class Pixels:
    """Decoded images.

    Attributes
    ----------
    file
        N images, one behind the other.
    size
        Their side, in pixels.
    kept
        Which of the files that were asked for each comes from ``[N]``; the others could not be decoded.
    broken
        Why not: a line for each of them.
    """

    file: Path
    size: int
    kept: NDArray[np.int64]
    broken: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.kept)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Some images, ``[n, size, size, 3]``."""
        length = self.size * self.size * 3
        out = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        # Read and not mapped: a map would let all of the file count as memory of the process.
        with self.file.open("rb", buffering=0) as file:
            for place, row in enumerate(rows):
                file.seek(int(row) * length)
                file.readinto(memoryview(out[place]).cast("B"))
        return out

    def views(self, rows: NDArray[np.int64], side: int, epoch: int, seed: int) -> NDArray[np.uint8]:
        """Squares of some images ``[n, side, side, 3]``: in training cropped at random and mirrored, else the middle.

        Parameters
        ----------
        rows
            Which images, ``[n]``.
        side
            Side of the squares, in pixels.
        epoch, seed
            Views are a function of (seed, epoch, image) alone; of ``EVALUATION`` they are the middle ones.
        """
        room = self.size - side
        images = self.read(rows)
        if epoch == EVALUATION:
            return images[:, room // 2 : room // 2 + side, room // 2 : room // 2 + side]
        draws = hash_uniform(seed, 41, epoch, rows[:, None], np.arange(3))
        out = np.empty((len(rows), side, side, 3), np.uint8)
        for place, (image, (y, x, flip)) in enumerate(zip(images, draws, strict=True)):
            top, left = int(y * (room + 1)), int(x * (room + 1))
            view = image[top : top + side, left : left + side]
            out[place] = view[:, ::-1] if flip < 0.5 else view
        return out


def colours(pixels: Pixels, rows: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, values from 0 to 1, over an even choice of images.

    A channel that is constant has the deviation 1.
    """
    chosen = rows[:: -(-len(rows) // _MEASURED)]
    first = second = np.zeros(3)
    for row in chosen:
        values = pixels.read(np.array([row])).reshape(-1, 3) / 255.0
        first, second = first + values.mean(0), second + np.square(values).mean(0)
    mean = first / len(chosen)
    std = np.sqrt(np.maximum(second / len(chosen) - mean**2, 0.0))
    return tuple(mean.tolist()), tuple(np.where(std > 1e-3, std, 1.0).tolist())


def with_margin(side: int) -> int:
    """Side of decoded images from which squares of a side are cropped at random."""
    return side + side // 8


def read_pixels(
    paths: Sequence[Path],
    size: int,
    on_error: str = "skip",
    listener: Callable[[float], None] | None = None,
    folder: Path | None = None,
) -> Pixels:
    """Decode images to squares of one size, once: the same files are not decoded again.

    Parameters
    ----------
    paths
        The files.
    size
        Side, in pixels.
    on_error
        What to do with a file that cannot be decoded: ``skip`` it, or ``fail``.
    listener
        Called with the share that is done.
    folder
        Where pixels are kept; in the user's cache by default (:func:`cache`). What is there may be deleted at any time.

    Raises
    ------
    FIMPError
        If ``on_error`` or the size is out of range; if a file cannot be decoded and ``on_error`` is ``fail``, or none
        can; or if the disk is full.
    """
    if on_error not in ON_ERROR:
        raise FIMPError(f"--on-error: {on_error!r} is unknown; use {' or '.join(ON_ERROR)}")
    if size < 1:
        raise FIMPError(f"image size {size} is below 1; use 64, for instance")
    place = cache() if folder is None else folder
    file = place / f"{_mark(paths, size)}.pixels"
    try:
        place.mkdir(parents=True, exist_ok=True)
        broken = _stored(file)
        if broken is None:
            broken = _decode(paths, size, file, listener)
    except OSError as error:
        raise FIMPError(f"{place}: cannot be written ({error.strerror}); make room, or set XDG_CACHE_HOME") from error
    if broken and on_error == "fail":
        raise FIMPError(f"{next(iter(broken.values()))}; --on-error skip leaves such files out")
    if len(broken) == len(paths):
        raise FIMPError(f"none of {len(paths)} images can be read; the first: {next(iter(broken.values()))}")
    kept = np.array([index for index in range(len(paths)) if index not in broken], dtype=np.int64)
    return Pixels(file, size, kept, tuple(broken.values()))


def cache() -> Path:
    """Folder for decoded images, in the user's cache (``XDG_CACHE_HOME``)."""
    import pooch

    return Path(pooch.os_cache("fimp")) / "images"


def _mark(paths: Sequence[Path], size: int) -> str:
    """A name for what comes out: other files, changed ones and other sizes have other names."""
    out = hashlib.sha256(f"{_VERSION} {size}".encode())
    for path in paths:
        stat = path.stat() if path.exists() else None
        out.update(f"\0{path.resolve()}\0{stat and (stat.st_mtime_ns, stat.st_size)}".encode())
    return out.hexdigest()[:32]


def _stored(file: Path) -> dict[int, str] | None:
    """Broken images of an earlier call by their index; None where there was none."""
    said = file.with_suffix(".json")
    if not said.is_file() or not file.is_file():
        return None
    return {int(index): reason for index, reason in json.loads(said.read_text(encoding="utf-8")).items()}


def _decode(paths: Sequence[Path], size: int, file: Path, listener: Callable[[float], None] | None) -> dict[int, str]:
    """Write the pixels, and last of all what says that they are complete."""
    broken: dict[int, str] = {}
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as out:
            for index, (_, result) in enumerate(decode_all(paths, size)):
                if isinstance(result, FIMPError):
                    broken[index] = str(result)
                else:
                    out.write(result.tobytes())
                if listener is not None and index % _REPORT == 0:
                    listener(index / len(paths))
        os.replace(temporary, file)
        temporary.write_text(json.dumps(broken), encoding="utf-8")
        os.replace(temporary, file.with_suffix(".json"))
    finally:
        temporary.unlink(missing_ok=True)
    return broken
