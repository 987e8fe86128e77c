"""Writing a copy of the file of an AnnData with something added to it, in bounded memory."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fimp.data.reading import open_source
from fimp.data.stored import fits
from fimp.data.zarr_store import is_zarr
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from anndata import AnnData


def check_annotated(source: str | Path, out: Path) -> None:
    """Refuse at once what :func:`write_annotated` would refuse.

    Raises
    ------
    FIMPError
        If the source cannot be read, or its matrices do not fit memory and the copy is to be of the other kind.
    """
    with open_source(str(source)) as (adata, name):
        _copied(source, out, adata, name)


def write_annotated(source: str | Path, out: Path, obsm: Mapping[str, NDArray], obs: Mapping[str, Any]) -> None:
    """Write the AnnData of a file with entries of ``obsm`` and columns of ``obs`` added.

    A file is copied as it is, and what is added is added to the copy, so that no matrix is ever in memory. Where the
    copy is to be of the other kind, .h5ad or .zarr, or the source is the name of a dataset, it is read whole.

    Parameters
    ----------
    source
        As for :func:`fimp.data.reading.open_source`.
    out
        What to write, .h5ad or .zarr, not there yet.
    obsm
        Arrays ``[N, ...]``.
    obs
        Columns, N each, as pandas takes them.

    Raises
    ------
    FIMPError
        If the matrices of a file of the other kind do not fit memory.
    """
    with open_source(str(source)) as (adata, name):
        copied = _copied(source, out, adata, name)
        if not copied:
            adata = adata.to_memory(copy=True)
    if copied:
        _copy(Path(source), out, obsm, obs)
        return
    for key, array in obsm.items():
        adata.obsm[key] = array
    for key, column in obs.items():
        adata.obs[key] = column
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (adata.write_zarr if out.suffix == ".zarr" else adata.write_h5ad)(out)


def _copied(source: str | Path, out: Path, adata: AnnData, name: str) -> bool:
    """Whether the file is copied as it is, and not read whole."""
    if out.suffix == ".zarr" and is_zarr(source):
        return True
    # Files of old layouts were opened in backed mode.
    if out.suffix == ".h5ad" and Path(source).is_file() and not adata.isbacked:
        return True
    matrices = (adata.X, None if adata.raw is None else adata.raw.X, *adata.layers.values())
    if all(stored is None or fits(stored, name) for stored in matrices):
        return False
    raise FIMPError(
        f"--out: {name} does not fit memory, and only a copy of the same kind needs none; "
        f"name {'a .zarr' if is_zarr(source) else 'an .h5ad'} file, or allow more with FIMP_MEMORY_BUDGET"
    )


def _copy(source: Path, out: Path, obsm: Mapping[str, NDArray], obs: Mapping[str, Any]) -> None:
    if source.is_dir():
        import zarr

        shutil.copytree(source, out)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # What lists the whole store at its top would hide what is added, and is made anew.
            group = zarr.open_group(str(out), mode="r+", use_consolidated=False)
            _add(group, obsm, obs)
            zarr.consolidate_metadata(group.store)
        return
    import h5py

    shutil.copyfile(source, out)
    with h5py.File(out, "r+") as file:
        _add(file, obsm, obs)


def _add(group: Any, obsm: Mapping[str, NDArray], obs: Mapping[str, Any]) -> None:
    from anndata.io import read_elem, write_elem

    if "obsm" not in group:
        write_elem(group, "obsm", {})
    for key, array in obsm.items():
        write_elem(group["obsm"], key, array)
    if obs:
        table = read_elem(group["obs"])
        for key, column in obs.items():
            table[key] = column
        write_elem(group, "obs", table)
