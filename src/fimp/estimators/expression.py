"""Masked expression prediction for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from fimp.estimators.cells import CellModel
from fimp.tasks.expression import ExpressionTask

if TYPE_CHECKING:
    from fimp.estimators.cells import Source


class ExpressionModel(CellModel):
    """Predict hidden gene expression from a cell's other genes and its neighbours.

    Parameters
    ----------
    adata
        AnnData, path of an .h5ad file, name of a dataset, or a list of these. See :func:`fimp.data.load_cells`
        for what is read from it.
    model
        A name that ``fimp compare --models`` knows, such as ``"fimp-base"`` or ``"gcn"``.
    seed
        Seed of split, masks and weights.
    **options
        Any field of :class:`fimp.data.CellOptions` (``layer``, ``graph``, ``neighbors``, ``section``, ...), of
        :class:`fimp.tasks.ExpressionOptions` (``tokens``, ``mask_ratio``, ``zeros``, ...), of
        :class:`fimp.train.TrainOptions` (``batch_size``, ``patience``, ``device``, ...) or of
        :class:`fimp.models.Hyperparameters` (``dim``, ``lr``, ``dropout``, ...).

    Raises
    ------
    FIMPError
        If the data or an option cannot be used.

    Examples
    --------
    >>> import fimp
    >>> adata = fimp.data.simulate.tissue(n_cells=200)
    >>> model = fimp.ExpressionModel(adata, model="mlp", seed=0)
    >>> model.fit(max_epochs=2)
    ExpressionModel(mlp on AnnData: 200 cells, 24 genes, 1600 edges; trained for 2 epochs)
    >>> model.predict().shape
    (200, 24)
    >>> model.predict(fimp.data.simulate.tissue(n_cells=50, seed=1)).shape
    (50, 24)
    """

    task_name: ClassVar[str] = ExpressionTask.name
    task: ExpressionTask

    def predict(self, adata: Source | None = None) -> NDArray[np.float32]:
        """Predicted expression of every gene in every cell.

        A gene's own value is never shown when it is predicted. Values are on the scale of the input: log1p of
        counts scaled to the median total, or the file's own values where these are not counts. A model that
        was trained on expressed genes (``zeros=0``, the default and the paper's setting) estimates a gene's
        expression **given that the cell expresses it**, so its values for unexpressed genes are no
        imputation of zeros; train with ``zeros=0.5`` for that.

        Parameters
        ----------
        adata
            Other cells, one or more; the cells given at construction by default. Genes are matched by name (see
            :meth:`task_on`).

        Returns
        -------
        ndarray
            ``[cells, genes]`` float32, genes in the order of ``model.data.gene_names``.

        Raises
        ------
        FIMPError
            If the cells cannot be used.
        """
        task = self.task_on(adata)
        count, genes = task.data.num_nodes, len(task.data.gene_names)
        total, times = np.zeros((count, genes), np.float32), np.zeros((count, genes), np.float32)
        for index in range(task.sampler.passes()):
            for cells, graph in self._subgraphs(task):
                tokens = task.sampler.draw_pass(graph.nodes, index)
                out = self._run(self.network, tokens, graph)
                seeds = tokens.take(len(cells)).columns(out.size(1))
                row, column = np.nonzero(seeds.hidden.numpy())
                gene = seeds.genes.numpy()[row, column]
                # A gene stands at most once in a row, so plain indexing adds all of them.
                total[cells[row], gene] += out.numpy()[row, column]
                times[cells[row], gene] += 1
        return np.where(times > 0, total / np.maximum(times, 1), self.task.state()["gene_mean"].numpy())
