"""Models with the interface of scikit-learn and scvi-tools, for notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fimp.estimators.expression import ExpressionModel
from fimp.train.runs import RunConfig

if TYPE_CHECKING:
    from anndata import AnnData

#: Estimator of each task.
ESTIMATORS = {"expression": ExpressionModel}


def load(path: str | Path, adata: AnnData | str | Path | None = None) -> ExpressionModel:
    """Load a trained model from a run folder.

    Parameters
    ----------
    path
        What ``save`` wrote, or ``DIR/runs/MODEL/seedK`` of ``fimp compare``.
    adata
        The data; by default what the model was trained on, from its file or from the folder.

    Raises
    ------
    FIMPError
        If the folder is no run, its weights do not fit, or its data cannot be found.
    """
    return ESTIMATORS[RunConfig.load(Path(path)).task].load(path, adata)


__all__ = ["ESTIMATORS", "ExpressionModel", "load"]
