"""Named datasets: simulated, shipped inside a package, or downloaded and checked by hash."""

from __future__ import annotations

import importlib.util
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fimp.data.h5ad import read_h5ad
from fimp.data.simulate import tissue
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from anndata import AnnData

#: Where squidpy publishes its example data, 10x Genomics' Visium sections among them.
_SQUIDPY = "https://exampledata.scverse.org/squidpy/"


@dataclass(frozen=True)
class Dataset:
    """A dataset that has a name.

    Attributes
    ----------
    name, description
        What ``fimp data list`` shows.
    origin
        ``simulated``, ``scanpy`` or ``download``.
    load
        Returns it as an AnnData.
    """

    name: str
    description: str
    origin: str
    load: Callable[[], AnnData]


def _download(file: str, sha256: str) -> Path:
    """Fetch a file of squidpy's collection into the user's cache; its hash is checked every time.

    Raises
    ------
    FIMPError
        If it cannot be fetched, or is not what was published.
    """
    import pooch
    import requests

    try:
        path = pooch.retrieve(
            _SQUIDPY + file,
            known_hash=f"sha256:{sha256}",
            fname=Path(file).name,
            path=pooch.os_cache("fimp"),
            downloader=pooch.HTTPDownloader(timeout=30),
        )
    except (requests.RequestException, OSError) as error:
        raise FIMPError(
            f"{_SQUIDPY + file}: cannot be downloaded ({type(error).__name__}); connect to a network, or download it "
            "elsewhere and pass the file"
        ) from error
    except ValueError as error:
        raise FIMPError(f"{_SQUIDPY + file}: the download's SHA-256 is not {sha256}; try again later") from error
    return Path(path)


def _pbmc68k_reduced() -> AnnData:
    # Finding the package without importing it spares seconds; the file is read as any other.
    spec = importlib.util.find_spec("scanpy")
    if spec is None or not spec.submodule_search_locations:
        raise FIMPError("pbmc68k_reduced: scanpy, which ships it, is not installed; pip install 'fimp[scanpy]'")
    path = Path(spec.submodule_search_locations[0]) / "datasets" / "10x_pbmc68k_reduced.h5ad"
    return read_h5ad(path)


def _slideseqv2() -> AnnData:
    return read_h5ad(_download("slideseqv2.h5ad", "224a0f2b3d4f6c0ac1583c93bb6bfa910a986df82302c4a927d61883b8b63d8b"))


def _seqfish() -> AnnData:
    return read_h5ad(_download("seqfish.h5ad", "7e544c0ede7538067537da69c52748ad01522ef7fc8691e077fd73c9434019f7"))


def _visium_heart() -> AnnData:
    folder = "10x_genomics/V1_Human_Heart/V1_Human_Heart_"
    counts = _download(
        f"{folder}filtered_feature_bc_matrix.h5", "a7274ea2ff2717693b200e614c288c174f02925b6d82c98221871a08e52d415b"
    )
    spatial = _download(f"{folder}spatial.tar.gz", "f2033b6ec4c13dcaf75386d4de3e86cb3357e15fe0eaa2be7037c3d3f0194188")
    return read_visium(counts, spatial)


def read_visium(counts: Path, spatial: Path) -> AnnData:
    """Read a Visium section as 10x Genomics publishes it.

    Parameters
    ----------
    counts
        ``*_filtered_feature_bc_matrix.h5``.
    spatial
        ``*_spatial.tar.gz`` with ``tissue_positions_list.csv``, or ``tissue_positions.csv`` which has a header.

    Returns
    -------
    AnnData
        Raw counts, and spot centres in full-resolution pixels (x, y) in ``obsm["spatial"]``. Repeated gene
        names are made unique.
    """
    import anndata
    import h5py
    import pandas as pd
    from scipy import sparse

    with h5py.File(counts, "r") as file:
        matrix = file["matrix"]
        parts = (matrix["data"][:].astype(np.float32), matrix["indices"][:], matrix["indptr"][:])
        # Stored genes x cells in CSC, which is cells x genes in CSR.
        values = sparse.csr_matrix(parts, shape=tuple(matrix["shape"][:][::-1]))
        barcodes = [barcode.decode() for barcode in matrix["barcodes"][:]]
        genes = [gene.decode() for gene in matrix["features"]["name"][:]]
    with tarfile.open(spatial) as archive:
        member = next(m for m in archive.getmembers() if Path(m.name).name.startswith("tissue_positions"))
        stream = archive.extractfile(member)
        assert stream is not None
        table = pd.read_csv(stream, header=0 if member.name.endswith("positions.csv") else None, index_col=0)
    # Unique before anndata sees them: it warns of repeated names even where they are about to be repaired.
    unique = anndata.utils.make_index_unique(pd.Index(genes))
    adata = anndata.AnnData(values, obs=pd.DataFrame(index=barcodes), var=pd.DataFrame(index=unique))
    adata.obsm["spatial"] = table.loc[barcodes].iloc[:, [-1, -2]].to_numpy(np.float64)
    return adata


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("simulated", "3,000 cells x 24 genes with planted ligand-receptor pairs", "simulated", tissue),
        Dataset("pbmc68k_reduced", "700 blood cells x 765 genes, no coordinates", "scanpy", _pbmc68k_reduced),
        Dataset("slideseqv2", "mouse hippocampus, 41,786 beads x 4,000 genes, 250 MB", "download", _slideseqv2),
        Dataset("seqfish", "mouse embryo, 19,416 cells x 351 genes, 31 MB", "download", _seqfish),
        Dataset("visium_heart", "human heart, 4,247 spots x 36,601 genes, 40 MB", "download", _visium_heart),
    )
}


def load_dataset(name: str) -> AnnData:
    """Load a named dataset as an AnnData.

    Raises
    ------
    FIMPError
        If no dataset has the name, or it cannot be had.
    """
    if name not in DATASETS:
        raise FIMPError(f"{name}: no dataset of this name; known are {', '.join(DATASETS)}")
    return DATASETS[name].load()
