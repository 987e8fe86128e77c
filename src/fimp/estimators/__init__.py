"""Models with the interface of scikit-learn and scvi-tools, for notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fimp.errors import FIMPError
from fimp.estimators.base import GraphModel
from fimp.estimators.cells import CellModel
from fimp.estimators.celltype import CellTypeModel
from fimp.estimators.expression import ExpressionModel
from fimp.estimators.image import ImageModel
from fimp.estimators.node import NodeModel
from fimp.estimators.recording import Reconstruction, RecordingModel
from fimp.train.runs import RunConfig

#: Estimator of each task.
ESTIMATORS: dict[str, type[GraphModel]] = {
    "celltype": CellTypeModel,
    "expression": ExpressionModel,
    "fmri": RecordingModel,
    "image": ImageModel,
    "node": NodeModel,
    "zeroshot": ImageModel,
}


def estimator_of(path: str | Path) -> type[GraphModel]:
    """The class that loads a run folder.

    Parameters
    ----------
    path
        What ``save`` wrote, or ``DIR/runs/MODEL/seedK`` of ``fimp compare``.

    Raises
    ------
    FIMPError
        If the folder is no run, or one of a task that has no class here.
    """
    task = RunConfig.load(Path(path)).task
    if task not in ESTIMATORS:
        raise FIMPError(f"{path}: a run of the task {task}, which has no notebook class; use one of {list(ESTIMATORS)}")
    return ESTIMATORS[task]


def load(path: str | Path, adata: Any = None) -> GraphModel:
    """Load a trained model from a run folder.

    Parameters
    ----------
    path
        What ``save`` wrote, or ``DIR/runs/MODEL/seedK`` of ``fimp compare``.
    adata
        Other cells (images, recordings, a graph: what the model's class takes) to use it on; by default what the model
        was trained on, from its file or from the folder. With other cells, the file it was trained on is not needed.

    Raises
    ------
    FIMPError
        If the folder is no run, its weights do not fit, or its data cannot be found or changed since.
    """
    return estimator_of(path).load(path, adata)


__all__ = [
    "ESTIMATORS",
    "CellModel",
    "CellTypeModel",
    "ExpressionModel",
    "GraphModel",
    "ImageModel",
    "NodeModel",
    "Reconstruction",
    "RecordingModel",
    "estimator_of",
    "load",
]
