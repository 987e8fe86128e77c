"""Image files: finding them, and decoding them to one size."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import SupportsFloat

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fimp.data.simulated_images import path_of
from fimp.errors import FIMPError

#: What is looked for in a folder.
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
#: Images in one go of the decoding threads: results wait for each other, so memory is bounded by this.
_AHEAD = 256
#: Sides of images are multiples of this where nobody chooses them, and no more than that.
_STEP, _LARGEST = 8, 96
#: Images that are looked at for that.
_LOOKED_AT = 64
#: Fewest and most patches along a side where nobody chooses their size.
_PATCHES, _MOST_PATCHES = 6, 16
#: The part of EXIF data that says where an image was taken.
_GPS = 0x8825


def find_images(source: str | Path) -> list[Path]:
    """Image files of a folder and the folders in it, in order, or those that a table lists.

    Parameters
    ----------
    source
        A folder, or a .csv or .tsv file with a column ``path``, relative to the file's own folder; or
        ``simulated_images``.

    Raises
    ------
    FIMPError
        If there is no such folder or file, or no image in it; or if a table is not readable or lists files that are
        not there.
    """
    place = path_of(source)
    if place.is_dir():
        found = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not found:
            raise FIMPError(f"{place}: no images; wanted files that end in {', '.join(SUFFIXES)}")
        return found
    if not place.is_file():
        raise FIMPError(f"{place}: does not exist, wanted a folder of images or a table with a column 'path'")
    if place.suffix.lower() not in (".csv", ".tsv"):
        raise FIMPError(f"{place}: is a {place.suffix or 'file'}, wanted a folder of images, or a .csv or .tsv table")
    return _listed(place)


def _listed(table: Path) -> list[Path]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, delimiter="\t" if table.suffix.lower() == ".tsv" else ",")
            names = rows.fieldnames or []
            if "path" not in names:
                columns = ", ".join(map(str, names)) or "nothing"
                raise FIMPError(f"{table}: no column 'path' among {columns}; name the column of image files so")
            paths = [table.parent / (row["path"] or "").strip() for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FIMPError(f"{table}: not readable as a table ({error}); save it as CSV in UTF-8") from error
    if not paths:
        raise FIMPError(f"{table}: lists no images; wanted a row per image")
    lost = [path for path in paths if not path.is_file()]
    if lost:
        raise FIMPError(
            f"{table}: {len(lost)} of {len(paths)} images are not there, first {lost[0]}; "
            "paths are relative to the table's own folder"
        )
    return paths


def decode(path: Path, size: int) -> NDArray[np.uint8]:
    """Decode one image: upright as its EXIF data say, in colour, the shorter side scaled, the middle square kept.

    Parameters
    ----------
    path
        JPEG, PNG, TIFF or WebP.
    size
        Side of the square, in pixels.

    Returns
    -------
    ndarray
        ``[size, size, 3]``.

    Raises
    ------
    FIMPError
        If it is no image, is damaged or cut short, or is of a kind whose values have no fixed range.
    """
    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (size, size))
            image = _in_colour(ImageOps.exif_transpose(opened))
            return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))
    # What a damaged file raises depends on its kind and on the byte that is wrong.
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise FIMPError(f"{path}: not readable as an image ({reason}); fetch it again, or leave it out") from error


def default_side(paths: Sequence[Path]) -> int:
    """Side of the squares that images are decoded to where nobody chooses one: their own, at most 96, in steps of 8.

    Parameters
    ----------
    paths
        The images. An even choice of them is looked at, without decoding them, and their median taken.
    """
    sides = []
    for path in paths[:: -(-len(paths) // _LOOKED_AT)]:
        # A file that is no image is reported when it is decoded.
        with suppress(Exception), Image.open(path) as opened:
            sides.append(min(opened.size))
    side = sorted(sides)[len(sides) // 2] if sides else _LARGEST
    return min(_LARGEST, max(_STEP, side // _STEP * _STEP))


def default_patch(side: int) -> int:
    """Side of patches where nobody chooses one: the largest that cuts images into 6 or more by 6 or more.

    Parameters
    ----------
    side
        Side of the images, in pixels.

    Raises
    ------
    FIMPError
        If only patches of more than 16 to a side would fit.
    """
    size = max(size for size in range(1, max(1, side // _PATCHES) + 1) if side % size == 0)
    if side // size > _MOST_PATCHES:
        raise FIMPError(
            f"--image-size: {side} is cut into no 6 to {_MOST_PATCHES} patches a side; use {side // _STEP * _STEP}, "
            "or give --patch-size"
        )
    return size


def gps_position(path: Path) -> tuple[float, float] | None:
    """Latitude and longitude in degrees that EXIF data of an image give, without decoding it.

    Parameters
    ----------
    path
        JPEG, PNG, TIFF or WebP.

    Returns
    -------
    tuple or None
        None where the file is no image, or has no position or an impossible one.
    """
    # What damaged EXIF data raise depends on the byte that is wrong; such a position is as good as none.
    try:
        with Image.open(path) as opened:
            tags = opened.getexif().get_ifd(_GPS)
        latitude = _degrees(tags[2], tags[1], "S")
        longitude = _degrees(tags[4], tags[3], "W")
    except Exception:
        return None
    return (latitude, longitude) if abs(latitude) <= 90.0 and abs(longitude) <= 180.0 else None


def _degrees(parts: Sequence[SupportsFloat], side: str | bytes, negative: str) -> float:
    """Degrees from degrees, minutes and seconds."""
    whole, minutes, seconds = (float(part) for part in parts)
    letter = side.decode("ascii") if isinstance(side, bytes) else side
    value = whole + minutes / 60.0 + seconds / 3600.0
    return -value if letter.strip("\0 ").upper() == negative else value


def _in_colour(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Conversion would cut all values above 255.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"values of mode {image.mode} have no fixed range; save it with 8 or 16 bits")
    return image.convert("RGB")


def decode_all(paths: Sequence[Path], size: int) -> Iterator[tuple[Path, NDArray[np.uint8] | FIMPError]]:
    """Decode images in threads, in their order: each path with ``[size, size, 3]``, or with what is wrong with it."""

    def one(path: Path) -> NDArray[np.uint8] | FIMPError:
        try:
            return decode(path, size)
        except FIMPError as error:
            return error

    with ThreadPoolExecutor() as threads:
        for start in range(0, len(paths), _AHEAD):
            some = paths[start : start + _AHEAD]
            yield from zip(some, threads.map(one, some), strict=True)
