"""Opening .h5ad files, with an error that a user can act on for every way one can be wrong."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from fimp.errors import FIMPError

if TYPE_CHECKING:
    from anndata import AnnData


def read_h5ad(path: str | Path) -> AnnData:
    """Open an .h5ad file, leaving its main matrix on disk.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    AnnData
        In backed mode: ``X`` stays on disk until it is read in blocks.

    Raises
    ------
    FIMPError
        If there is no such file, or it is a directory, empty, truncated, not HDF5 or not AnnData.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise FIMPError(f"{path}: is a directory; pass an .h5ad file")
        if not path.exists():
            raise FIMPError(f"{path}: no such file; pass an .h5ad file or a name that `fimp data list` shows")
        if path.stat().st_size == 0:
            raise FIMPError(f"{path}: the file is empty; copy or download it again")
    # A name that is too long, or a folder that may not be entered.
    except OSError as error:
        raise FIMPError(f"{path}: cannot be opened ({error.strerror}); pass another path") from error
    import anndata
    import h5py

    if not h5py.is_hdf5(path):
        raise FIMPError(f"{path}: not an HDF5 file, wanted .h5ad; write it with adata.write_h5ad(path)")
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in ("obs", "var") if key not in file]
            # anndata writes no X where it is None; a layer or raw can stand in for it.
            if not any(key in file for key in ("X", "layers", "raw")):
                missing.insert(0, "X")
    except OSError as error:
        raise FIMPError(f"{path}: cannot be opened ({_short(error)}); it may be truncated: copy it again") from error
    if missing:
        raise FIMPError(
            f"{path}: HDF5, but no AnnData: {', '.join(missing)} missing; write it with adata.write_h5ad(path)"
        )
    try:
        with warnings.catch_warnings():
            # Repeated gene names are an error of ours, repeated cell names and old formats are none.
            warnings.simplefilter("ignore")
            return anndata.read_h5ad(path, backed="r")
    # Damage inside the file surfaces as whatever h5py, anndata or pandas stumble over first.
    except Exception as error:
        raise FIMPError(
            f"{path}: cannot be read as AnnData ({_short(error)}); it may be damaged: write or copy it again"
        ) from error


def _short(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__
