"""What the notebook classes of tasks on cells share."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.data.cells import CellGraph, CellReference, load_cells
from fimp.data.storage import pack, unpack
from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.models.registry import ModelChoice, resolve
from fimp.tasks.base import Network, Task, TaskKind, known_tasks
from fimp.tasks.cells import read_cells
from fimp.train.checkpoint import load_tree, load_weights, save_tree
from fimp.train.fit import Fitted, TrainOptions, evaluate, fit
from fimp.train.loader import EVALUATION_BATCH, sampler_for
from fimp.train.runs import WEIGHTS, RunConfig, weights_tree

if TYPE_CHECKING:
    from anndata import AnnData

    Source: TypeAlias = AnnData | str | Path | Sequence[AnnData | str | Path]

#: Where a run folder keeps data that had no file.
DATA = "data.safetensors"


class CellModel(ABC):
    """A model of cells for one task; see its subclasses.

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
        Fields of the options of data, task, training and model.

    Attributes
    ----------
    config
        What determines the model.
    data
        Graph of the cells given at construction, or at :func:`fimp.load`.
    network
        The network, on the CPU, in evaluation mode.
    epochs
        Epochs it was trained for.
    """

    task_name: ClassVar[str]
    config: RunConfig
    data: CellGraph
    network: Network
    epochs: int

    def __init__(self, adata: Source, model: str = "fimp-base", seed: int = 0, **options: Any) -> None:
        kind, choice = self._kind(), resolve(model)
        groups = [kind.data_options, kind.options, TrainOptions, type(choice.hyperparameters)]
        chosen = [{f.name: options.pop(f.name) for f in fields(group) if f.name in options} for group in groups]
        if options:
            known = ", ".join(f.name for group in groups for f in fields(group))
            raise FIMPError(f"{type(self).__name__}: option {sorted(options)[0]!r} is unknown; known are {known}")
        self.config = RunConfig(
            task=kind.name,
            source=_stored_source(adata),
            data=kind.data_options(**chosen[0]),
            options=kind.options(**chosen[1]),
            train=TrainOptions(**chosen[2]),
            model=model,
            hyperparameters=replace(choice.hyperparameters, **chosen[3]),
            seed=seed,
            files=choice.files,
            threads=torch.get_num_threads(),
        )
        self.data = read_cells(adata, self.config.data)
        self._reference = self.data.reference
        self.task: Any = self.config.make_task(self.data)
        torch.manual_seed(seed)
        self.network = self.task.network(self.choice).eval()
        self.epochs = 0

    @classmethod
    def _kind(cls) -> TaskKind:
        return known_tasks()[cls.task_name]

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

        Raises
        ------
        FIMPError
            If the model was loaded with cells other than those it was trained on.
        """
        if not self.task.split:
            raise FIMPError(f"fit: this model was loaded for {self.data.name}; make a new one to train on it")
        train = self.config.train if max_epochs is None else replace(self.config.train, epochs=max_epochs)
        budget = None if max_minutes is None else 60.0 * max_minutes
        fitted: Fitted = fit(self.task, self.choice, train, budget_seconds=budget)
        self.network, self.epochs = fitted.network, fitted.epochs
        self.config = replace(self.config, train=train)
        if max_minutes is not None:
            self.config = replace(self.config, **fitted.shortened)
        return self

    def evaluate(self, part: str = "test") -> dict[str, float]:
        """Metrics on the ``"train"``, ``"val"`` or ``"test"`` cells.

        Raises
        ------
        FIMPError
            If there is no such part: cells other than those it was trained on are in none.
        """
        if part not in self.task.split:
            parts = ", ".join(self.task.split) or "none of these cells are"
            raise FIMPError(f"evaluate: part {part!r} is unknown; there is {parts}")
        return evaluate(self.task, self.choice, self.network, self.task.split[part], self.config.train)

    def embed(self, adata: Source | None = None) -> NDArray[np.float32]:
        """One vector per cell ``[cells, D]``, with none of its sampled values hidden.

        Parameters
        ----------
        adata
            Other cells, as for :meth:`predict`; the cells given at construction by default.
        """
        return np.concatenate([states.numpy() for _, states in self._batches(self.task_on(adata), self.network.embed)])

    def task_on(self, adata: Source | None) -> Any:
        """The task on other cells, which need not be in any part of a split; the model's own task for None.

        Genes are matched by name: a gene that the cells lack counts as not expressed, one that the model does not
        know is left out; ``task.data.notes`` tells how many. Counts are scaled to the total that the model was
        trained with.

        Raises
        ------
        FIMPError
            If no gene matches, or counts are given to a model of continuous values or the reverse.
        """
        if adata is None:
            return self.task
        data = load_cells(adata, self.config.data, reference=self._reference)
        return self._kind().make(data, self.config.options, self.config.seed, self.task.state())

    def save(self, path: str | Path) -> None:
        """Write a folder that :func:`fimp.load` reads: configuration, weights, and data that had no file."""
        folder = Path(path)
        if folder.exists() and not folder.is_dir():
            raise FIMPError(f"{folder}: is a file; name a folder")
        self.config.save(folder)
        save_tree(weights_tree(self.task, self.network, self.epochs, self._reference), folder / WEIGHTS)
        if self.config.source is None:
            save_tree(pack(self.data), folder / DATA)

    @classmethod
    def load(cls, path: str | Path, adata: Source | None = None) -> Self:
        """Read a folder that :meth:`save` or ``fimp compare`` wrote; see :func:`fimp.load`."""
        folder = Path(path)
        new = cls.__new__(cls)
        new.config = RunConfig.load(folder)
        new.config.check_files()
        stored = load_tree(folder / WEIGHTS)
        try:
            new.epochs, state = int(stored["epochs"]), stored["task"]
            new._reference = CellReference(**stored["reference"])
        except (KeyError, TypeError) as error:
            raise FIMPError(f"{folder / WEIGHTS}: not the weights of a finished run ({error}); train again") from error
        if adata is not None:
            new.data = load_cells(adata, new.config.data, reference=new._reference)
            new.task = cls._kind().make(new.data, new.config.options, new.config.seed, state)
        else:
            new.data = new._own_data(folder)
            new.task = new.config.make_task(new.data)
        new.network = new.task.network(new.choice).eval()
        load_weights(new.network, folder / WEIGHTS)
        return new

    def _own_data(self, folder: Path) -> CellGraph:
        """The cells it was trained on."""
        if self.config.source is None:
            return unpack(load_tree(folder / DATA), str(folder / DATA))
        return read_cells(self.config.source, self.config.data)

    def _subgraphs(self, task: Task) -> Iterator[tuple[NDArray[np.int64], Subgraph]]:
        """All cells, some at a time, with their neighbourhoods."""
        sampler = sampler_for(task, self.choice, self.network.hops, self.config.train.fanout)
        nodes = np.arange(task.data.num_nodes)
        for start in range(0, len(nodes), EVALUATION_BATCH):
            cells = nodes[start : start + EVALUATION_BATCH]
            yield cells, sampler.sample(cells)

    @torch.no_grad()
    def _batches(
        self, task: Any, call: Callable[[Any, Subgraph], Tensor]
    ) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Some cells at a time, and what ``call`` makes of them when none of their values is hidden."""
        for cells, graph in self._subgraphs(task):
            yield cells, self._run(call, task.shown(graph.nodes), graph)

    @torch.no_grad()
    def _run(self, call: Callable[[Any, Subgraph], Tensor], inputs: Any, graph: Subgraph) -> Tensor:
        device = torch.device(self.config.train.accelerator)
        self.network.to(device).eval()
        with self.config.train.autocast():
            out = call(inputs.to(device), graph.to(device)).cpu().float()
        self.network.cpu()
        return out

    def __repr__(self) -> str:
        data, state = self.data, f"trained for {self.epochs} epochs" if self.epochs else "not trained"
        return (
            f"{type(self).__name__}({self.config.model} on {data.name}: {data.num_nodes} cells, "
            f"{len(data.gene_names)} genes, {data.edge_index.size(1)} edges; {state})"
        )


def _stored_source(adata: Source) -> str | list[str] | None:
    if isinstance(adata, (list, tuple)):
        return [str(one) for one in adata] if all(isinstance(one, (str, Path)) for one in adata) else None
    return str(adata) if isinstance(adata, (str, Path)) else None
