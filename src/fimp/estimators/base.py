"""What the notebook classes of all tasks share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.models.registry import ModelChoice, resolve
from fimp.tasks.base import Network, Task, known_tasks
from fimp.train.checkpoint import load_tree, load_weights, save_tree
from fimp.train.digest import digest
from fimp.train.evaluation import evaluate
from fimp.train.fit import Fitted, fit
from fimp.train.loader import EVALUATION_BATCH, evaluation_order, sampler_for
from fimp.train.options import TrainOptions
from fimp.train.runs import WEIGHTS, RunConfig, weights_tree


class GraphModel(ABC):
    """A model of the nodes of a graph for one task; see its subclasses.

    Parameters
    ----------
    source
        What the task reads its graph from.
    model
        A name that ``fimp compare --models`` knows, such as ``"fimp-base"`` or ``"gcn"``.
    seed
        Seed of split, draws and weights.
    **options
        Fields of the options of data, task, training and model.

    Attributes
    ----------
    task_name
        The task that the constructor sets up.
    nodes
        What the nodes are called in messages.
    config
        What determines the model.
    data
        Graph of what was given at construction, or at :func:`fimp.load`.
    network
        The network, on the CPU, in evaluation mode.
    epochs
        Epochs it was trained for.

    Raises
    ------
    FIMPError
        If the data, the model or an option cannot be used.
    """

    task_name: ClassVar[str]
    nodes: ClassVar[str]
    config: RunConfig
    data: Data
    network: Network
    epochs: int

    def __init__(self, source: Any, model: str = "fimp-base", seed: int = 0, **options: Any) -> None:
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise FIMPError(f"{type(self).__name__}: seed={seed!r}; use a whole number from 0 on")
        kind, choice = known_tasks()[self.task_name], resolve(model)
        groups = [kind.data_options, kind.options, TrainOptions, type(choice.hyperparameters)]
        chosen = [{f.name: options.pop(f.name) for f in fields(group) if f.name in options} for group in groups]
        if options:
            known = ", ".join(f.name for group in groups for f in fields(group))
            raise FIMPError(f"{type(self).__name__}: option {sorted(options)[0]!r} is unknown; known are {known}")
        self.config = RunConfig(
            task=kind.name,
            source=_stored_source(source),
            data=kind.data_options(**chosen[0]),
            options=kind.options(**chosen[1]),
            train=TrainOptions(**chosen[2]),
            model=model,
            hyperparameters=replace(choice.hyperparameters, **chosen[3]),
            seed=int(seed),
            files=choice.files,
            threads=torch.get_num_threads(),
        )
        self.data = self._read(source)
        self.config = replace(self.config, data_digest=digest(self.config.source, self.data))
        self._reference = self.data.reference
        self.task: Any = self.config.make_task(self.data)
        if not chosen[3]:
            own = self.task.with_defaults(self.choice).hyperparameters
            self.config = replace(self.config, hyperparameters=own)
        torch.manual_seed(seed)
        self.network = self.task.network(self.choice).eval()
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
            Passes over the training nodes; by default as many as the command line takes.
        max_minutes
            Time budget.

        Raises
        ------
        FIMPError
            If the model was loaded with nodes other than those it was trained on, or a limit is not positive.
        """
        if not self.task.split:
            raise FIMPError(f"fit: this model was loaded for {self.data.name}; make a new one to train on it")
        if max_minutes is not None and not max_minutes > 0.0:
            raise FIMPError(f"fit: max_minutes={max_minutes!r}; use a positive number, or None for no limit")
        train = self.config.train if max_epochs is None else replace(self.config.train, epochs=max_epochs)
        budget = None if max_minutes is None else 60.0 * max_minutes
        fitted: Fitted = fit(self.task, self.choice, train, budget_seconds=budget)
        self.network, self.epochs = fitted.network, fitted.epochs
        self.config = replace(self.config, train=train)
        if max_minutes is not None:
            self.config = replace(self.config, **fitted.shortened)
        return self

    def evaluate(self, part: str = "test") -> dict[str, float]:
        """Metrics on the ``"train"``, ``"val"`` or ``"test"`` nodes.

        Raises
        ------
        FIMPError
            If there is no such part: nodes other than those it was trained on are in none.
        """
        if part not in self.task.split:
            parts = ", ".join(self.task.split) or f"none of these {self.nodes} are"
            raise FIMPError(f"evaluate: part {part!r} is unknown; there is {parts}")
        return evaluate(self.task, self.choice, self.network, self.task.split[part], self.config.train)

    def embed(self, source: Any = None) -> NDArray[np.float32]:
        """One vector per node ``[nodes, D]``, with none of its sampled values hidden.

        Parameters
        ----------
        source
            Other data (see :meth:`task_on`); what was given at construction by default.
        """
        return self._outputs(source, self.network.embed)

    def embed_nodes(self, nodes: NDArray[np.int64]) -> NDArray[np.float32]:
        """One vector for each of some of its own nodes ``[n, D]``, with none of their sampled values hidden.

        Parameters
        ----------
        nodes
            Distinct indices into ``task.data``, ascending ``[n]``.

        Raises
        ------
        FIMPError
            If the model is a rule or takes no input, and has no such vectors.
        """
        return self._outputs_of(self.task, self.network.embed, nodes)

    def task_on(self, source: Any) -> Any:
        """The task on other data, which need not be in any part of a split; the model's own task for None.

        Raises
        ------
        FIMPError
            If the model cannot use the data.
        """
        if source is None:
            return self.task
        config = self.config
        return config.kind.make(self._read(source, self._reference), config.options, config.seed, self.task.state())

    def save(self, path: str | Path) -> None:
        """Write a folder that :func:`fimp.load` reads: configuration and weights.

        Parameters
        ----------
        path
            The folder; an earlier model there is replaced.

        Raises
        ------
        FIMPError
            If ``path`` is a file.
        """
        folder = Path(path)
        if folder.exists() and not folder.is_dir():
            raise FIMPError(f"{folder}: is a file; name a folder")
        self.config.save(folder)
        save_tree(weights_tree(self.task, self.network, self.epochs, self._reference), folder / WEIGHTS)

    @classmethod
    def load(cls, path: str | Path, source: Any = None) -> Self:
        """Read a folder that :meth:`save` or ``fimp compare`` wrote; see :func:`fimp.load`.

        Raises
        ------
        FIMPError
            As :func:`fimp.load`.
        """
        folder = Path(path)
        new = cls.__new__(cls)
        new.config = RunConfig.load(folder)
        new.config.check_files()
        kind, stored = new.config.kind, load_tree(folder / WEIGHTS)
        try:
            new.epochs, state = int(stored["epochs"]), stored["task"]
            new._reference = kind.reference(**stored["reference"])
        except (KeyError, TypeError) as error:
            raise FIMPError(f"{folder / WEIGHTS}: not the weights of a finished run ({error}); train again") from error
        if source is not None:
            new.data = new._read(source, new._reference)
            new.task = kind.make(new.data, new.config.options, new.config.seed, state)
        else:
            new.data = new._own_data(folder)
            new.task = new.config.make_task(new.data)
        new.network = new.task.network(new.choice).eval()
        load_weights(new.network, folder / WEIGHTS)
        return new

    def _read(self, source: Any, reference: Any = None) -> Data:
        return self.config.kind.read(source, self.config.data, reference)

    def _own_data(self, folder: Path) -> Data:
        """What a model in a run folder was trained on.

        Raises
        ------
        FIMPError
            If it cannot be read, or is not what it was.
        """
        config = self.config
        data = self._read(config.source)
        if config.data_digest not in (None, digest(config.source, data)):
            raise FIMPError(
                f"{config.data_name}: changed since {folder} was trained; put back what it was trained on, name data "
                "to use the model on, or train anew"
            )
        return data

    @abstractmethod
    def _contents(self) -> str:
        """What the graph consists of, for people."""

    def _subgraphs(
        self, task: Task, chosen: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[NDArray[np.int64], Subgraph]]:
        """All nodes or chosen ones, some at a time and in no order, with their neighbourhoods."""
        sampler = sampler_for(task, self.choice, self.network.hops, self.config.train.fanout)
        nodes = evaluation_order(task, np.arange(task.data.num_nodes) if chosen is None else chosen)
        for start in range(0, len(nodes), EVALUATION_BATCH):
            some = nodes[start : start + EVALUATION_BATCH]
            yield some, sampler.sample(some)

    def _outputs(self, source: Any, call: Callable[[Any, Subgraph], Tensor]) -> NDArray[np.float32]:
        """What ``call`` makes of all nodes when none of their values is hidden, ``[nodes, ...]``."""
        return self._outputs_of(self.task_on(source), call)

    def _outputs_of(
        self, task: Any, call: Callable[[Any, Subgraph], Tensor], chosen: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """The same of a task's nodes, or of those chosen, in ascending order."""
        order, outputs = [], []
        for nodes, graph in self._subgraphs(task, chosen):
            order.append(nodes)
            outputs.append(self._run(call, task.shown(graph.nodes), graph).numpy())
        return np.concatenate(outputs)[np.concatenate(order).argsort()]

    @torch.no_grad()
    def _run(self, call: Callable[[Any, Subgraph], Tensor], inputs: Any, graph: Subgraph) -> Tensor:
        device = torch.device(self.config.train.accelerator)
        self.network.to(device).eval()
        with self.config.train.autocast():
            out = call(inputs.to(device), graph.to(device)).cpu().float()
        self.network.cpu()
        return out

    def __repr__(self) -> str:
        state = f"trained for {self.epochs} epochs" if self.epochs else "not trained"
        return f"{type(self).__name__}({self.config.model} on {self.data.name}: {self._contents()}; {state})"


def _stored_source(source: Any) -> str | list[str] | None:
    if isinstance(source, (list, tuple)):
        return [str(one) for one in source] if all(isinstance(one, (str, Path)) for one in source) else None
    return str(source) if isinstance(source, (str, Path)) else None
