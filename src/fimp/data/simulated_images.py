"""Simulated images on a map, of which neighbours show the same kind of thing."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fimp.errors import FIMPError

#: Side of an image, in pixels.
SIZE = 48
#: Name under which commands and readers take the images that are made with the defaults.
NAME = "simulated_images"
#: Places within 10 miles of a place, on average.
_DENSITY = 12.0
_CLASSES, _DOMAINS = 4, 24
#: Squares along a side of the map, and how many of them validate and test; whole squares, so that no neighbours of what
#: is tested were seen in training, but for those along the edges.
_SQUARES, _VALIDATE, _TEST = 4, 2, 4
#: Directions of the furrows in degrees: how far classes are apart, and the spread within a class. They go from level to
#: upright, so that no image becomes one of another class when it is mirrored, as training does.
_APART, _SPREAD = 30.0, 25.0
#: Furrows per pixel, and the spread of their frequency in both directions: they wave, end and begin, so that no pixel
#: tells anything by itself.
_FREQUENCY, _BAND = 0.1, 0.012
#: Colour of the ground, and how deep furrows are in each channel.
_EARTH, _FURROWS = np.array([140.0, 115.0, 85.0]), np.array([34.5, 30.0, 24.0])
#: Standard deviations of the colour of the ground between images, and of noise.
_TINT, _NOISE = 8.0, 10.0
#: Counts up when images are made otherwise than before, so that those in caches are not used.
_VERSION = 3


def images(folder: str | Path, n_places: int = 800, seed: int = 0, labelled: float = 0.2) -> Path:
    """Write images of ploughed fields at places on a map, and the table that lists them.

    A map of about 12 places within 10 miles of each other is divided into 24 domains, six for each of 4 countries. The
    direction of the furrows in an image is drawn around that of its country, so widely that an image alone tells the
    country in 6 of 10 cases at best: neighbours, whose furrows are drawn anew, tell the rest. Colours, where furrows
    lie and noise are of no country.

    Parameters
    ----------
    folder
        Where ``images.csv`` and the folder ``images`` are written; files of these names are replaced.
    n_places
        Number of images, one per place; at least 40.
    seed
        Seed of everything.
    labelled
        Share of training images that have a label. Images are many and labels few, as where a person has to give them.

    Returns
    -------
    Path
        ``images.csv``, with columns ``path``, ``latitude``, ``longitude``, ``label`` (the country), ``region`` (sixteen
        squares of the map) and ``split`` (ten squares train, two validate, four test; empty where there is no label).

    Raises
    ------
    FIMPError
        If there are too few places, the share is none, or the folder cannot be written.
    """
    from PIL import Image

    if n_places < 40:
        raise FIMPError(f"images: n_places={n_places}, wanted at least 40; use 800, for instance")
    if not 0.0 <= labelled <= 1.0:
        raise FIMPError(f"images: labelled={labelled} is no share, wanted 0 to 1; use 0.2, for instance")
    generator = np.random.default_rng([seed, 14])
    # Position in miles, from the corner of a square.
    side = float(np.sqrt(n_places * np.pi * 100.0 / _DENSITY))
    miles = generator.uniform(0.0, side, (n_places, 2))
    country = _countries(miles, generator)
    angle = np.deg2rad(_APART * country + _SPREAD * generator.standard_normal(n_places))
    # 69.1 miles to a degree; on the equator, where those of longitude are as long.
    longitude, latitude = (miles / 69.1 + [8.0, -0.5]).T
    column, line = np.minimum((_SQUARES * miles / side).astype(np.int64), _SQUARES - 1).T
    square = _SQUARES * line + column
    parts = np.repeat(["test", "val", "train"], [_TEST, _VALIDATE, _SQUARES**2 - _TEST - _VALIDATE])
    split = generator.permutation(parts)[square]
    known = (split != "train") | (generator.random(n_places) < labelled)
    place = Path(folder).expanduser()
    try:
        (place / "images").mkdir(parents=True, exist_ok=True)
        with (place / "images.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "latitude", "longitude", "label", "region", "split"])
            for row in range(n_places):
                path = f"images/{row:05d}.png"
                Image.fromarray(_furrows(angle[row], generator)).save(place / path)
                told = [f"country {'ABCD'[country[row]]}", f"R{square[row]}", split[row]]
                if not known[row]:
                    told = ["", told[1], ""]
                writer.writerow([path, f"{latitude[row]:.6f}", f"{longitude[row]:.6f}", *told])
    except OSError as error:
        raise FIMPError(f"{place}: cannot be written ({error.strerror or error}); name another folder") from error
    return place / "images.csv"


def _countries(miles: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.int64]:
    """The country of each place: that of the nearest of a few places far from each other."""
    chosen = [int(generator.integers(len(miles)))]
    distance = np.linalg.norm(miles - miles[chosen], axis=1)[None]
    while len(chosen) < _DOMAINS:
        chosen.append(int(distance.min(axis=0).argmax()))
        distance = np.concatenate([distance, np.linalg.norm(miles - miles[chosen[-1]], axis=1)[None]])
    return generator.permutation(np.arange(_DOMAINS) % _CLASSES)[distance.argmin(axis=0)]


def _furrows(angle: float, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Furrows of one direction in brown earth, under noise: ``[SIZE, SIZE, 3]``.

    White noise, of which a window of frequencies around one direction is kept. It is cut out of a larger field, so that
    opposite edges do not fit each other.
    """
    frequency = np.fft.fftfreq(2 * SIZE)
    x, y = np.meshgrid(frequency, frequency)
    across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kept = np.exp(-0.5 * ((np.abs(across) - _FREQUENCY) ** 2 + along**2) / _BAND**2)
    field = np.fft.ifft2(np.fft.fft2(generator.standard_normal(kept.shape)) * kept).real[:SIZE, :SIZE]
    ground = _EARTH + _TINT * generator.standard_normal(3)
    noise = _NOISE * generator.standard_normal((SIZE, SIZE, 3))
    return np.clip(ground + (field / field.std())[:, :, None] * _FURROWS + noise, 0, 255).astype(np.uint8)


def path_of(source: str | Path) -> Path:
    """Path of a source of images; for the name ``simulated_images``, that of :func:`images` in the user's cache.

    Raises
    ------
    FIMPError
        If the cache cannot be written.
    """
    path = Path(source).expanduser()
    if str(source) != NAME or path.exists():
        return path
    from fimp.data.pixels import cache

    folder = cache() / f"{NAME}-{_VERSION}"
    if not (folder / "images.csv").is_file():
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        try:
            images(temporary)
            # Another process may have been quicker.
            if not folder.exists():
                os.replace(temporary, folder)
        except OSError as error:
            raise FIMPError(f"{folder}: cannot be written ({error.strerror}); set XDG_CACHE_HOME") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder / "images.csv"
