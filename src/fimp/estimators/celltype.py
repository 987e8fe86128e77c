"""Classification of cells for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fimp.estimators.cells import CellModel
from fimp.tasks.celltype import CellTypeTask

if TYPE_CHECKING:
    from fimp.estimators.cells import Source


class CellTypeModel(CellModel):
    """Predict a cell's label from its genes and its neighbours.

    Parameters
    ----------
    adata
        AnnData, path of an .h5ad file, name of a dataset, or a list of these. See :func:`fimp.data.load_cells`
        for what is read from it.
    label
        Column of obs with the labels; cells where it is missing are used as neighbours and are not scored.
    model
        A name that ``fimp compare --models`` knows, such as ``"fimp-base"`` or ``"gcn"``.
    seed
        Seed of split and weights.
    **options
        Any field of :class:`fimp.data.CellOptions`, :class:`fimp.tasks.CellTypeOptions` (``class_weights``, ...),
        :class:`fimp.train.TrainOptions` or :class:`fimp.models.Hyperparameters`.

    Raises
    ------
    FIMPError
        If the data, the label or an option cannot be used.

    Examples
    --------
    >>> import fimp
    >>> adata = fimp.data.simulate.tissue(n_cells=200)
    >>> model = fimp.CellTypeModel(adata, label="cell_type", model="mlp", seed=0)
    >>> model.fit(max_epochs=5)
    CellTypeModel(mlp on AnnData: 200 cells, 24 genes, 1600 edges; trained for 5 epochs)
    >>> adata.obs["fimp_prediction"] = model.predict()
    >>> model.predict_proba().shape
    (200, 2)
    """

    task_name: ClassVar[str] = CellTypeTask.name
    task: CellTypeTask

    def __init__(self, adata: Source, label: str, model: str = "fimp-base", seed: int = 0, **options: Any) -> None:
        super().__init__(adata, model, seed, label=label, **options)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of :meth:`predict_proba`'s columns."""
        return list(self._reference.classes or ())

    def predict(self, adata: Source | None = None) -> NDArray[np.str_]:
        """The most probable class of every cell, labelled or not.

        Parameters
        ----------
        adata
            Other cells, one or more; the cells given at construction by default. Genes are matched by name (see
            :meth:`task_on`).

        Returns
        -------
        ndarray
            ``[cells]`` class names.
        """
        return np.array(self.classes)[self.predict_proba(adata).argmax(axis=1)]

    def predict_proba(self, adata: Source | None = None) -> NDArray[np.float32]:
        """Probability of every class for every cell, ``[cells, classes]``; see :meth:`predict`."""
        return torch.from_numpy(self._outputs(adata, self.network)).softmax(1).numpy()
