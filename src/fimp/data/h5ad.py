"""Opening .h5ad files, with an error that a user can act on for every way one can be wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fimp.errors import FIMPError

if TYPE_CHECKING:
    from anndata import AnnData


def read_h5ad(path: str | Path) -> AnnData:
    """Open an .h5ad file, leaving its matrices on disk.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    AnnData
        ``X``, ``raw.X`` and layers are HDF5 datasets, or anndata's view of sparse ones: they stay on disk until they
        are read. :func:`close` closes the file.

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
        raise FIMPError(f"{path}: cannot be opened ({short(error)}); it may be truncated: copy it again") from error
    if missing:
        raise FIMPError(
            f"{path}: HDF5, but no AnnData: {', '.join(missing)} missing; write it with adata.write_h5ad(path)"
        )
    try:
        with warnings.catch_warnings():
            # Repeated gene names are an error of ours, repeated cell names and old formats are none.
            warnings.simplefilter("ignore")
            file = h5py.File(path, "r")
            if "encoding-type" in file.attrs:
                return read_lazily(file)
            # Written before anndata 0.8, in layouts that anndata itself knows how to open.
            file.close()
            return anndata.read_h5ad(path, backed="r")
    # Damage inside the file surfaces as whatever h5py, anndata or pandas stumble over first.
    except Exception as error:
        raise FIMPError(
            f"{path}: cannot be read as AnnData ({short(error)}); it may be damaged: write or copy it again"
        ) from error


def read_lazily(group: Any) -> AnnData:
    """An AnnData of an open HDF5 file or zarr group, whose matrices ``X``, ``raw.X`` and layers stay there."""
    from anndata.experimental import read_dispatched
    from anndata.io import sparse_dataset

    def read(load: Callable[[Any], Any], name: str, stored: Any, iospec: Any) -> Any:
        key, kind = name.strip("/"), iospec.encoding_type
        if key in ("X", "raw/X") or key.startswith("layers/"):
            if kind in ("csr_matrix", "csc_matrix"):
                return sparse_dataset(stored)
            if kind == "array":
                return stored
        return load(stored)

    return read_dispatched(group, read)


def close(adata: AnnData) -> None:
    """Close the file of an AnnData that was read lazily or in backed mode."""
    if adata.isbacked:
        adata.file.close()
        return
    matrices = (adata.X, None if adata.raw is None else adata.raw.X, *adata.layers.values())
    # All are asked before any is closed: they are in one file.
    files = [getattr(getattr(stored, "group", stored), "file", None) for stored in matrices]
    for file in files:
        if file is not None:
            file.close()


def short(error: Exception) -> str:
    """The kind of an error and the beginning of what it says, on one line."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__
