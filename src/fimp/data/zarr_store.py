"""Opening .zarr stores of AnnData."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fimp.data.h5ad import read_lazily, short
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from anndata import AnnData

#: Files that mark the folder of a group, in formats 2 and 3.
_MARKS = (".zgroup", "zarr.json")


def is_zarr(path: str | Path) -> bool:
    """Whether a path is to be read as a zarr store: it is called .zarr, or is a folder that holds one."""
    path = Path(path)
    return path.suffix == ".zarr" or any((path / mark).is_file() for mark in _MARKS)


def read_zarr(path: str | Path) -> AnnData:
    """Open a .zarr store, format 2 or 3, leaving its matrices on disk.

    Parameters
    ----------
    path
        The store, a folder.

    Returns
    -------
    AnnData
        ``X``, ``raw.X`` and layers are zarr arrays, or anndata's view of sparse ones.

    Raises
    ------
    FIMPError
        If there is no such folder, it is no zarr store or no AnnData, or zarr is not installed.
    """
    path = Path(path)
    try:
        import zarr
    except ImportError as error:
        raise FIMPError(f"{path}: reading it needs zarr, which is not installed; pip install 'fimp[zarr]'") from error
    if not path.exists():
        raise FIMPError(f"{path}: no such folder; pass a .zarr store or an .h5ad file")
    if not path.is_dir():
        raise FIMPError(f"{path}: is a file, wanted the folder of a .zarr store; unpack it first")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            group = zarr.open_group(str(path), mode="r")
            missing = [key for key in ("obs", "var") if key not in group]
            if not any(key in group for key in ("X", "layers", "raw")):
                missing.insert(0, "X")
            if not missing and "encoding-type" in group.attrs:
                _check_chunks(group, path)
                return read_lazily(group)
    except FIMPError:
        raise
    # Damage inside a store surfaces as whatever zarr, anndata or pandas stumble over first.
    except Exception as error:
        raise FIMPError(
            f"{path}: cannot be read as AnnData ({short(error)}); it may be damaged: write or copy it again"
        ) from error
    what = f"{', '.join(missing)} missing" if missing else "no encoding-type"
    raise FIMPError(f"{path}: a zarr store, but no AnnData: {what}; write it with adata.write_zarr(path)")


def _check_chunks(group: Any, path: Path) -> None:
    """Refuse sparse matrices that lack chunks: zarr reads what is missing as zeros.

    Of a dense matrix that cannot be told from chunks that are zero, which are not written.
    """
    for key in ("X", "raw/X", *(f"layers/{layer}" for layer in group.get("layers", ()))):
        if f"{key}/data" not in group or f"{key}/indptr" not in group:
            continue
        data = group[f"{key}/data"]
        if lost := data.nchunks - data.nchunks_initialized:
            raise FIMPError(f"{path}: {lost} of {data.nchunks} chunks of {key} are missing; copy the store again")
