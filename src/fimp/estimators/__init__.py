"""Models with the interface of scikit-learn and scvi-tools, for notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fimp.errors import FIMPError
from fimp.estimators.base import CellModel
from fimp.estimators.celltype import CellTypeModel
from fimp.estimators.expression import ExpressionModel
from fimp.train.runs import RunConfig

if TYPE_CHECKING:
    from fimp.estimators.base import Source

#: Estimator of each task.
ESTIMATORS: dict[str, type[CellModel]] = {"celltype": CellTypeModel, "expression": ExpressionModel}


def load(path: str | Path, adata: Source | None = None) -> CellModel:
    """Load a trained model from a run folder.

    Parameters
    ----------
    path
        What ``save`` wrote, or ``DIR/runs/MODEL/seedK`` of ``fimp compare``.
    adata
        Other cells to use it on; by default what the model was trained on, from its file or from the folder.
        With other cells, the file it was trained on is not needed.

    Raises
    ------
    FIMPError
        If the folder is no run, its weights do not fit, or its data cannot be found.
    """
    task = RunConfig.load(Path(path)).task
    if task not in ESTIMATORS:
        raise FIMPError(f"{path}: a run of the task {task}, which has no notebook class; use one of {list(ESTIMATORS)}")
    return ESTIMATORS[task].load(path, adata)


__all__ = ["ESTIMATORS", "CellModel", "CellTypeModel", "ExpressionModel", "load"]
