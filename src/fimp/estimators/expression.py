"""Masked expression prediction for notebooks."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fimp.data.cells import CellOptions, load_cells
from fimp.data.masking import EVALUATION
from fimp.data.storage import pack, unpack
from fimp.errors import FIMPError
from fimp.models.registry import ModelChoice, resolve
from fimp.tasks.expression import ExpressionNetwork, ExpressionOptions, ExpressionTask
from fimp.train.checkpoint import load_tree, load_weights, save_tree
from fimp.train.fit import Fitted, TrainOptions, evaluate, fit
from fimp.train.loader import EVALUATION_BATCH
from fimp.train.runs import WEIGHTS, RunConfig
from fimp.train.sampler import NeighborSampler

if TYPE_CHECKING:
    from anndata import AnnData
    from torch_geometric.data import Data

#: Where a run folder keeps data that had no file.
DATA = "data.safetensors"


class ExpressionModel:
    """Predict hidden gene expression from a cell's other genes and its neighbours.

    Parameters
    ----------
    adata
        AnnData, path of an .h5ad file, or name of a dataset. See :func:`fimp.data.load_cells` for what is
        read from it.
    model
        A name that ``fimp compare --models`` knows, such as ``"fimp-base"`` or ``"gcn"``.
    seed
        Seed of split, masks and weights.
    **options
        Any field of :class:`fimp.data.CellOptions` (``layer``, ``graph``, ``neighbors``, ...), of
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
    """

    def __init__(self, adata: AnnData | str | Path, model: str = "fimp-base", seed: int = 0, **options: Any) -> None:
        choice = resolve(model)
        groups = [CellOptions, ExpressionOptions, TrainOptions, type(choice.hyperparameters)]
        chosen = [{f.name: options.pop(f.name) for f in fields(group) if f.name in options} for group in groups]
        if options:
            known = ", ".join(f.name for group in groups for f in fields(group))
            raise FIMPError(f"ExpressionModel: option {sorted(options)[0]!r} is unknown; known are {known}")
        config = RunConfig(
            task=ExpressionTask.name,
            source=str(adata) if isinstance(adata, (str, Path)) else None,
            data=CellOptions(**chosen[0]),
            options=ExpressionOptions(**chosen[1]),
            train=TrainOptions(**chosen[2]),
            model=model,
            hyperparameters=replace(choice.hyperparameters, **chosen[3]),
            seed=seed,
        )
        self._set_up(config, load_cells(adata, config.data))

    def _set_up(self, config: RunConfig, data: Data) -> None:
        self.config, self.data = config, data
        self.task = ExpressionTask(data, config.options, config.seed)
        torch.manual_seed(config.seed)
        self.network: ExpressionNetwork = self.task.network(config.choice).eval()
        self.epochs = 0

    @property
    def choice(self) -> ModelChoice:
        """Model and hyperparameters."""
        return self.config.choice

    @property
    def notes(self) -> list[str]:
        """What was decided while reading the data."""
        return list(self.data.notes)

    def fit(self, max_epochs: int | None = None, max_minutes: float | None = None) -> Self:
        """Train from new weights.

        Parameters
        ----------
        max_epochs
            Passes over the training cells; by default as many as the command line takes.
        max_minutes
            Time budget.
        """
        train = self.config.train if max_epochs is None else replace(self.config.train, epochs=max_epochs)
        budget = None if max_minutes is None else 60.0 * max_minutes
        fitted: Fitted = fit(self.task, self.choice, train, budget_seconds=budget)
        assert isinstance(fitted.network, ExpressionNetwork)
        self.network, self.epochs = fitted.network, fitted.epochs
        self.config = replace(self.config, train=train)
        if max_minutes is not None:
            self.config = replace(self.config, planned_steps=fitted.planned_steps, steps=fitted.steps)
        return self

    def evaluate(self, part: str = "test") -> dict[str, float]:
        """Metrics on the ``"train"``, ``"val"`` or ``"test"`` cells: ``mse``, ``r2`` and ``r2_gene``."""
        if part not in self.task.split:
            raise FIMPError(f"evaluate: part {part!r} is unknown; use {', '.join(self.task.split)}")
        return evaluate(self.task, self.choice, self.network, self.task.split[part], self.config.train)

    def predict(self, adata: AnnData | str | Path | None = None) -> NDArray[np.float32]:
        """Predicted expression of every gene in every cell.

        A gene's own value is never shown when it is predicted. Values are on the scale of the input: log1p of
        counts scaled to the median total, or the file's own values where these are not counts. A model that
        was trained on expressed genes (``zeros=0``, the default and the paper's setting) estimates a gene's
        expression **given that the cell expresses it**, so its values for unexpressed genes are no
        imputation of zeros; train with ``zeros=0.5`` for that.

        Parameters
        ----------
        adata
            Other cells, with the same genes; the cells given at construction by default.

        Returns
        -------
        ndarray
            ``[cells, genes]`` float32, genes in the order of ``var_names``.
        """
        task = self._task_of(adata)
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
        return np.where(times > 0, total / np.maximum(times, 1), self.network.gene_mean.numpy())

    def embed(self, adata: AnnData | str | Path | None = None) -> NDArray[np.float32]:
        """One vector per cell ``[cells, D]``, with none of its sampled values hidden."""
        task = self._task_of(adata)
        parts = []
        for _, graph in self._subgraphs(task):
            tokens = task.sampler.draw(graph.nodes, EVALUATION, hide=False)
            parts.append(self._run(self.network.embed, tokens, graph).numpy())
        return np.concatenate(parts)

    def save(self, path: str | Path) -> None:
        """Write a folder that :func:`fimp.load` reads: configuration, weights, and data that had no file."""
        folder = Path(path)
        if folder.exists() and not folder.is_dir():
            raise FIMPError(f"{folder}: is a file; name a folder")
        self.config.save(folder)
        save_tree({"state_dict": self.network.state_dict(), "epochs": self.epochs}, folder / WEIGHTS)
        if self.config.source is None:
            save_tree(pack(self.data), folder / DATA)

    @classmethod
    def load(cls, path: str | Path, adata: AnnData | str | Path | None = None) -> Self:
        """Read a folder that :meth:`save` or ``fimp compare`` wrote; see :func:`fimp.load`."""
        folder = Path(path)
        config = RunConfig.load(folder)
        if adata is not None:
            data = load_cells(adata, config.data)
        elif config.source is None:
            data = unpack(load_tree(folder / DATA), str(folder / DATA))
        else:
            data = load_cells(config.source, config.data)
        new = cls.__new__(cls)
        new._set_up(config, data)
        load_weights(new.network, folder / WEIGHTS)
        new.epochs = int(load_tree(folder / WEIGHTS).get("epochs", 0))
        return new

    def _task_of(self, adata: AnnData | str | Path | None) -> ExpressionTask:
        if adata is None:
            return self.task
        data = load_cells(adata, self.config.data)
        if data.gene_names != self.data.gene_names:
            raise FIMPError(
                f"{data.name}: its genes differ from the {len(self.data.gene_names)} the model was trained on; "
                "select them, in this order: adata[:, model.data.gene_names]"
            )
        return ExpressionTask(data, self.config.options, self.config.seed)

    def _subgraphs(self, task: ExpressionTask) -> Any:
        sampler = NeighborSampler(task.edges(self.choice), task.data.num_nodes, [-1] * self.network.hops)
        nodes = np.arange(task.data.num_nodes)
        for start in range(0, len(nodes), EVALUATION_BATCH):
            cells = nodes[start : start + EVALUATION_BATCH]
            yield cells, sampler.sample(cells)

    @torch.no_grad()
    def _run(self, call: Any, tokens: Any, graph: Any) -> torch.Tensor:
        device = torch.device(self.config.train.accelerator)
        network: nn.Module = self.network.to(device).eval()
        out: torch.Tensor = call(tokens.to(device), graph.to(device)).cpu()
        network.cpu()
        return out

    def __repr__(self) -> str:
        data, state = self.data, f"trained for {self.epochs} epochs" if self.epochs else "not trained"
        return (
            f"ExpressionModel({self.config.model} on {data.name}: {data.num_nodes} cells, "
            f"{len(data.gene_names)} genes, {data.edge_index.size(1)} edges; {state})"
        )
