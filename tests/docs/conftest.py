"""What the documentation calls FILE.h5ad, FOLDER and so on: small files of these names."""

import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import Data

import fimp
from fimp.cli.main import app

#: Names of cells, graphs, folders and checkpoints in the documentation, by what they stand for.
CELLS = (
    "FILE.h5ad", "NEW.h5ad", "OTHER.h5ad", "A.h5ad", "B.h5ad", "cells.h5ad",
    "osmfish_cortex.h5ad", "drosophila_embryo.h5ad", "mob_spots.h5ad",
)  # fmt: skip
CHECKPOINTS = {"scgpt": ("FOLDER", "scGPT_human"), "vit": ("vit-base-patch16-224",), "brainlm": ("BrainLM", "MODEL")}
_SIZE = ("--dim", "16", "--layers", "2", "--heads", "2", "--hidden", "16", "--epochs", "1", "--device", "cpu")


def _cells(folder):
    """120 cells of two types and two conditions; labels under the names of all data sets."""
    adata = fimp.data.simulate.tissue(n_cells=120, n_genes=12, n_pairs=2)
    types = adata.obs["cell_type"].cat.rename_categories(["Astrocyte", "Neuron"])
    for column in ("cell_type", "cluster", "celltype_mapped_refined"):
        adata.obs[column] = types
    across = adata.obsm["spatial"][:, 0]
    adata.obs["condition"] = np.where(across > np.median(across), "ill", "well")
    for name in CELLS:
        adata.write_h5ad(folder / name)
    pd.DataFrame({"from": adata.var_names, "to": adata.var_names}).to_csv(folder / "genes.csv", index=False)
    vectors = np.random.default_rng(0).standard_normal((adata.n_vars, 6)).tolist()
    (folder / "GenePT.pickle").write_bytes(pickle.dumps(dict(zip(adata.var_names, vectors, strict=True))))


def _graph(folder):
    """90 nodes of three classes with sparse features."""
    generator = torch.Generator().manual_seed(0)
    x, edges = (torch.rand(90, 20, generator=generator) < 0.2).float(), torch.randint(90, (2, 400), generator=generator)
    fimp.data.write_nodes(folder / "GRAPH.npz", Data(x=x, edge_index=edges, y=torch.arange(90) % 3))


def _images(folder):
    """60 images with columns of every table that is spoken of; and, without a table, in FOLDER."""
    fimp.data.simulate.images(folder / "IMAGES", n_places=60, labelled=1.0)
    table = pd.read_csv(folder / "IMAGES" / "images.csv")
    table = table.assign(country=table["label"], location_id=np.arange(len(table)) // 2)
    table.to_csv(folder / "IMAGES" / "images.csv", index=False)
    shutil.copytree(folder / "IMAGES", folder / "MAPILLARY")
    table.assign(path="IMAGES/" + table["path"]).to_csv(folder / "images.csv", index=False)
    (folder / "FOLDER").mkdir()
    for path in table["path"][:20]:
        shutil.copy(folder / "IMAGES" / path, folder / "FOLDER")


def _recordings(folder):
    """Recordings of six subjects, as tables and as images of voxels with an atlas."""
    import nibabel

    for name in ("FOLDER", "OTHERS", "OTHER"):
        fimp.data.simulate.recordings(folder / name, n_subjects=6, n_regions=8, n_times=180, seed=1)
    subjects = [f"sub-{number:02d}" for number in range(1, 7)]
    pd.DataFrame({"subject": subjects, "age": range(50, 80, 5)}).to_csv(folder / "subjects.csv", index=False)
    networks = {"region": [f"region {number}" for number in range(8)], "network": ["visual", "motor"] * 4}
    pd.DataFrame(networks).to_csv(folder / "networks.csv", index=False)
    labels = np.arange(1, 9).reshape(2, 2, 2)
    affine = np.diag([20.0, 20.0, 20.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.float32), affine), folder / "A424+2mm.nii.gz")
    (folder / "UKB").mkdir()
    for subject in subjects:
        with np.load(folder / "FOLDER" / f"{subject}.npz") as found:
            image = nibabel.Nifti1Image(found["signal"].reshape(2, 2, 2, -1), affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 2.0
        for place in ("UKB", "FOLDER"):
            nibabel.save(image, folder / place / f"{subject}_bold.nii.gz")


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory):
    """A folder with all of them; documents work on copies."""
    folder = tmp_path_factory.mktemp("stand-ins")
    _cells(folder)
    _graph(folder)
    _images(folder)
    _recordings(folder)
    small = {"dim": 16, "layers": 1}
    fimp.ExpressionModel(folder / "FILE.h5ad", **small).save(folder / "RUN")
    fimp.RecordingModel(folder / "OTHERS", neighbors=3, **small).save(folder / "RECORDINGS_RUN")
    data = {"scgpt": "FILE.h5ad", "vit": "IMAGES", "brainlm": "OTHERS"}
    for family, (first, *others) in CHECKPOINTS.items():
        made = folder / f"made-{family}"
        extra = ("--decoder-dim", "8", "--decoder-layers", "1") if family == "vit" else ()
        command = ["pretrain", family, "--data", str(folder / data[family]), "--out", str(made), *_SIZE, *extra]
        app(command, standalone_mode=False)
        for name in (first, *others):
            shutil.copytree(made, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("pretraining.*"))
        shutil.rmtree(made)
    return folder
