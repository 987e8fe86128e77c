"""Recordings as images of voxels (NIfTI): mean signals of the regions of an atlas."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fimp.data.recording_files import Stored, guarded
from fimp.data.regions import Regions, named_regions
from fimp.errors import FIMPError

#: How files of images end.
IMAGES = (".nii", ".nii.gz")
#: Volumes that are in memory at once.
_AT_ONCE = 16
#: Seconds per unit of time, as headers name them.
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


def is_image(path: Path) -> bool:
    """Whether a file's name is that of an image."""
    return path.name.lower().endswith(IMAGES)


@dataclass(frozen=True)
class Atlas:
    """An image in which every voxel has the number of its region.

    Attributes
    ----------
    path
        Its file.
    places
        Which region each voxel is in, ``[X, Y, Z]``: its place among the numbers in ascending order, -1 for none.
    affine
        From places of voxels to mm, ``[4, 4]``.
    regions
        The regions, in ascending order of their numbers.
    """

    path: Path
    places: NDArray[np.int64]
    affine: NDArray[np.float64]
    regions: Regions

    def at(self, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.int64]:
        """The region of every voxel of an image on another grid, that of the nearest voxel; -1 for none.

        Parameters
        ----------
        shape
            X, Y and Z of the image.
        affine
            From places of its voxels to mm, ``[4, 4]``.

        Returns
        -------
        ndarray
            ``[X, Y, Z]``.
        """
        if shape == self.places.shape and np.allclose(affine, self.affine, atol=1e-3):
            return self.places
        across = np.linalg.inv(self.affine) @ affine
        voxels = np.indices(shape).reshape(3, -1)
        near = np.rint(across[:3, :3] @ voxels + across[:3, 3:]).astype(np.int64)
        inside = ((near >= 0) & (near < np.array(self.places.shape)[:, None])).all(0)
        found = np.full(voxels.shape[1], -1)
        found[inside] = self.places[tuple(near[:, inside])]
        return found.reshape(shape)


def read_atlas(path: Path, table: Path | None = None) -> Atlas:
    """Read an atlas.

    Parameters
    ----------
    path
        A 3-D image (.nii, .nii.gz) of whole numbers: 0 where there is no region, any others for regions.
    table
        Names of the regions (:func:`fimp.data.regions.named_regions`); their numbers by default.

    Raises
    ------
    FIMPError
        If nibabel is not installed, the image cannot be read or is no atlas, or the table does not fit.
    """
    return guarded(lambda path: _atlas(path, table), path)


def read_volumes(path: Path, atlas: Atlas) -> Stored:
    """Mean signal of every region of an atlas in a recording.

    Voxels that are constant, as those outside a mask are, count nowhere; the signal of a region that has no other, or
    has a voxel that is NaN at some times alone, is NaN.

    Parameters
    ----------
    path
        A 4-D image (.nii, .nii.gz) in the space of the atlas; on another grid, a voxel is in the region of the nearest
        voxel of the atlas.
    atlas
        The atlas.

    Returns
    -------
    Stored
        ``signal [R, T]``, and ``tr`` where the header gives it with a unit.

    Raises
    ------
    FIMPError
        If nibabel is not installed, the image cannot be read or is no recording, or none of it is in the atlas.
    """
    return guarded(lambda path: _means(path, atlas), path)


def _atlas(path: Path, table: Path | None) -> Atlas:
    image = _load(path)
    values = np.asarray(image.dataobj).squeeze()
    if values.ndim != 3:
        raise FIMPError(
            f"{path}: an image of shape {list(image.shape)}, wanted an atlas [X, Y, Z]; give the label image, which "
            "has the number of its region at every voxel"
        )
    values = np.nan_to_num(values.astype(np.float64))
    if not (values == np.rint(values)).all() or values.min() < 0:
        odd = values[(values != np.rint(values)) | (values < 0)][0]
        raise FIMPError(f"{path}: a voxel has the value {odd:g}, wanted whole numbers from 0; give the label image")
    numbers, places = np.unique(values.astype(np.int64), return_inverse=True)
    places = places.reshape(values.shape) - (numbers[0] == 0)
    numbers = numbers[numbers > 0]
    if not len(numbers):
        raise FIMPError(f"{path}: all voxels are 0, wanted the numbers of regions; give the label image")
    inside = np.argwhere(places >= 0)
    owner = places[places >= 0]
    count = np.bincount(owner)
    centre = np.stack([np.bincount(owner, inside[:, axis]) / count for axis in range(3)], axis=1)
    affine = np.asarray(image.affine, dtype=np.float64)
    xyz = centre @ affine[:3, :3].T + affine[:3, 3]
    return Atlas(path, places, affine, named_regions(numbers.tolist(), xyz, path, table))


def _means(path: Path, atlas: Atlas) -> Stored:
    image = _load(path)
    if len(image.shape) != 4:
        raise FIMPError(
            f"{path}: an image of shape {list(image.shape)}, wanted a recording [X, Y, Z, time]; move it elsewhere "
            "if it is none"
        )
    places = atlas.at(image.shape[:3], np.asarray(image.affine, dtype=np.float64))
    used = places >= 0
    if not used.any():
        raise FIMPError(
            f"{path}: no voxel is in a region of {atlas.path}, wanted both in one space; register the recording to it"
        )
    signal = _by_region(image, used, places[used], len(atlas.regions))
    # Without a unit, 1 is what programs write that do not know; the header's own precision is seven digits.
    unit = image.header.get_xyzt_units()[1]
    seconds = float(image.header.get_zooms()[3]) * _SECONDS.get(unit, 0.0)
    return Stored(signal, round(seconds, 6) if np.isfinite(seconds) and seconds > 0.0 else None)


def _by_region(image: Any, used: NDArray[np.bool_], owner: NDArray[np.int64], regions: int) -> NDArray[np.float64]:
    """Means of the voxels that are used, ``[R, T]``; ``owner`` is the region of each."""
    length = image.shape[3]
    total = np.zeros((regions, length))
    low, high = np.full(len(owner), np.inf), np.full(len(owner), -np.inf)
    broken = np.zeros(len(owner), np.int64)
    for start in range(0, length, _AT_ONCE):
        # Whole volumes in their order: what is compressed is read once, and never whole.
        block = np.asarray(image.dataobj[..., start : start + _AT_ONCE])[used].astype(np.float64)
        bad = ~np.isfinite(block)
        broken += bad.sum(1)
        block[bad] = 0.0
        low, high = np.minimum(low, block.min(1)), np.maximum(high, block.max(1))
        for time in range(block.shape[1]):
            total[:, start + time] = np.bincount(owner, block[:, time], regions)
    constant = low == high
    total -= np.bincount(owner[constant], low[constant], regions)[:, None]
    count = np.bincount(owner[~constant], minlength=regions).astype(np.float64)
    count[np.unique(owner[(broken > 0) & (broken < length)])] = np.nan
    count[count == 0.0] = np.nan
    return total / count[:, None]


def _load(path: Path) -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise FIMPError(
            f"{path}: images are read by the package nibabel, which is not installed; pip install 'fimp[nifti]'"
        ) from error
    # Volumes are read one after another: a file that is closed in between would be unpacked from its beginning.
    image = nibabel.load(path, keep_file_open=True)
    if not isinstance(image, nibabel.Nifti1Pair):
        raise FIMPError(
            f"{path}: {type(image).__name__}, wanted a NIfTI image of voxels; save what is on surfaces as a table "
            "[regions, time]"
        )
    return image
