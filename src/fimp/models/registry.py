"""Which models there are, and what their names mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor, nn

from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.models.checkpoints import KINDS, FileMark, FoundationChoice, parse, split_names

if TYPE_CHECKING:
    from fimp.foundation import FoundationModel

#: Suffixes of a model's name that change the graph it is given instead of the model.
CONTROLS = {
    "no-edges": "the same model on a graph without edges between nodes",
    "shuffled-edges": "the same model with the sources of all edges permuted",
}


#: Ways to fill in what is hidden of a node for a model of vectors, in tasks that hide patches of signals.
FILLS = {
    "noise": "hidden values are random noise",
    "mean": "hidden values are the mean of the node's visible ones",
    "interpolate": "hidden values are interpolated between the visible ones around them",
}

#: Isolation of every other network, where several are a model together.
ISOLATED = 0.75
#: Agreement of neighbours from which on a second ring of them is heard.
_AGREEMENT_FOR_TWO_RINGS = 0.5


@dataclass(frozen=True)
class Hyperparameters:
    """What is tuned per model.

    Attributes
    ----------
    dim
        Width of hidden states.
    layers
        Message passing layers (for ``mlp``: hidden layers).
    heads
        Attention heads, where the model has any.
    dropout, attention_dropout
        Probabilities of dropping hidden values and attention weights. No dropout given means one that fits the
        number of training values (:meth:`ModelChoice.for_data`).
    reach
        Rings of neighbours whose tokens a model of tokens hears in a layer; 1 or 2 for cells. None means what fits the
        data (:meth:`ModelChoice.for_data`).
    isolation
        Probability that a node hears no neighbour in a training step (:class:`fimp.models.fimp.FIMP`). None means 0,
        and :data:`ISOLATED` for every other one of several networks that are a model together.
    lr, weight_decay
        Peak learning rate and decoupled weight decay of AdamW.

    Raises
    ------
    FIMPError
        If a value is outside of its range.
    """

    dim: int = 128
    layers: int = 2
    heads: int = 4
    dropout: float | None = None
    attention_dropout: float = 0.0
    reach: int | None = None
    isolation: float | None = None
    lr: float = 1e-3
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        for name in ("dim", "layers", "heads"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise FIMPError(f"{name}={value!r}: wanted a whole number of at least 1")
        for name in ("dropout", "attention_dropout"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < 1.0:
                raise FIMPError(f"{name}={value!r}: wanted a probability below 1; use 0.1, for instance")
        if not 0.0 < self.lr < math.inf:
            raise FIMPError(f"lr={self.lr!r}: wanted a positive learning rate; use 0.001, for instance")
        if not 0.0 <= self.weight_decay < math.inf:
            raise FIMPError(f"weight_decay={self.weight_decay!r}: wanted 0 or more; use 0.01, for instance")

    @property
    def decided_dropout(self) -> float:
        """Dropout; 0.1 where nobody has decided."""
        return 0.1 if self.dropout is None else self.dropout

    @property
    def decided_reach(self) -> int:
        """Reach; 1 where nobody has decided."""
        return 1 if self.reach is None else self.reach

    @property
    def decided_isolation(self) -> float:
        """Isolation; 0 where nobody has decided."""
        return 0.0 if self.isolation is None else self.isolation


class Backbone(nn.Module):
    """What ``build`` makes: a network between a task's input and its head.

    Attributes
    ----------
    hops
        Number of message passing layers.
    out_dim
        Width of the states it returns.
    reach
        For models of tokens, the hops within which they hear nodes' tokens.
    pretraining_hops
        Hops that :meth:`pretraining_loss` needs, where the model has one (``ModelSpec.pretrains``).
    """

    hops: int
    out_dim: int
    reach: int
    pretraining_hops: int

    def pretraining_loss(self, x: Tensor, graph: Subgraph) -> Tensor:
        """Self-supervised loss on nodes' vectors ``[n, F]``, a scalar; no part of a task's head is involved.

        May draw from torch's global generator, which training seeds per step.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class ModelSpec:
    """A kind of model.

    Attributes
    ----------
    name
        Name on the command line.
    description
        One line for ``fimp models list`` and the documentation.
    input
        ``tokens``: nodes as token sequences. ``vectors``: nodes as one vector. ``none``: nothing at all, the
        model is its output bias. ``rule``: what a formula needs, fitted at most, never trained. ``foundation``: nodes
        as tokens of the foundation model in ``foundation``.
    build
        ``build(hyperparameters, in_dim)`` makes the network; ``in_dim`` is the length of a node's vector. For models
        of tokens it is ``build(hyperparameters, dim, names, parts)``, with the width of tokens, whether they have names
        and whether nodes are asked for the very tokens that they show; for foundation models
        ``build(hyperparameters, model)``.
    defaults
        Hyperparameters it ships with.
    encode
        ``encode(edge_index, num_nodes)`` gives positional encodings ``[N, P]`` of the graph the model is given,
        controls included; it finds them in ``Subgraph.encoding``.
    egos
        Whether the model computes every seed in a graph of its own (``Subgraph.egos``).
    pretrains
        Whether training begins with a phase on ``Backbone.pretraining_loss``.
    foundation
        The checkpoint, and how it is used.
    """

    name: str
    description: str
    input: Literal["tokens", "vectors", "none", "rule", "foundation"]
    build: Callable[..., Backbone]
    defaults: Hyperparameters = Hyperparameters()
    encode: Callable[[Tensor, int], Tensor] | None = None
    egos: bool = False
    pretrains: bool = False
    foundation: FoundationChoice | None = None

    def backbone(
        self, hyperparameters: Hyperparameters, in_dim: int, names: bool = False, parts: bool = False
    ) -> Backbone:
        """What ``build`` makes; ``names`` and ``parts`` matter to models of tokens alone."""
        return self.build(hyperparameters, in_dim, *([names, parts] if self.input == "tokens" else []))

    @property
    def baseline(self) -> bool:
        """Whether FIMP is measured against it: models of vectors, and a foundation model without the graph."""
        return self.input in ("vectors", "none", "rule") or (self.foundation is not None and not self.foundation.graph)

    @property
    def trainable(self) -> bool:
        """Whether there is anything to train."""
        return self.input not in ("none", "rule")


_SPECS: dict[str, ModelSpec] = {}


def register(spec: ModelSpec) -> ModelSpec:
    """Make a model known under its name.

    Parameters
    ----------
    spec
        The model; it replaces one of the same name.
    """
    _SPECS[spec.name] = spec
    return spec


@dataclass(frozen=True)
class ModelChoice:
    """A name on the command line, understood.

    Attributes
    ----------
    name
        As it was written, control included.
    spec
        The model.
    control
        One of :data:`CONTROLS`, or None.
    hyperparameters
        Those it will be built and trained with.
    gene_table
        File of gene embeddings that the tokens of cells start from (``fimp-base,genes=FILE``), or None.
    fill
        One of :data:`FILLS` (``gcn+mean``), or None.
    """

    name: str
    spec: ModelSpec
    control: str | None
    hyperparameters: Hyperparameters
    gene_table: str | None = None
    fill: str | None = None

    @property
    def reads_files(self) -> bool:
        """Whether the model has files of its own, which may be damaged or not fit the data."""
        return self._path is not None

    @property
    def files(self) -> FileMark | None:
        """These files, as they are now."""
        if self._path is None:
            return None
        return FileMark.of(self._path, self.spec.foundation.mapping if self.spec.foundation else None)

    @property
    def _path(self) -> str | None:
        return self.gene_table if self.spec.foundation is None else self.spec.foundation.folder

    def at(self, files: FileMark) -> ModelChoice:
        """The same with its files in another place."""
        if self.spec.foundation is None:
            return replace(self, gene_table=files.path)
        moved = replace(self.spec.foundation, folder=files.path, mapping=files.mapping)
        return replace(self, spec=replace(self.spec, foundation=moved))

    def filled(self) -> list[ModelChoice]:
        """The same with each of :data:`FILLS`: three for a model of vectors that says nothing of it, else itself."""
        if self.spec.input != "vectors" or self.fill is not None:
            return [self]
        rest = self.name.removeprefix(self.spec.name)
        return [replace(self, name=f"{self.spec.name}+{fill}{rest}", fill=fill) for fill in FILLS]

    def for_data(self, values: int, reach: int = 1) -> ModelChoice:
        """The same with dropout and reach decided, where none is given.

        Parameters
        ----------
        values
            Number of training values, for :func:`default_dropout`.
        reach
            Rings of neighbours whose tokens are heard (:func:`default_reach`).
        """
        h = self.hyperparameters
        dropout = default_dropout(values) if h.dropout is None else h.dropout
        reach = reach if h.reach is None else h.reach
        return replace(self, hyperparameters=replace(h, dropout=dropout, reach=reach))

    def member(self, index: int) -> ModelChoice:
        """The same as one of several networks that are a model together: those that hear and those that rarely do.

        Parameters
        ----------
        index
            Which of them, from 0.
        """
        h = self.hyperparameters
        isolation = ISOLATED * (index % 2) if h.isolation is None else h.isolation
        return replace(self, hyperparameters=replace(h, isolation=isolation))


def default_reach(agreement: float) -> int:
    """Reach among cells: a second ring is worth its time where neighbours agree, as those two hops away then do.

    Parameters
    ----------
    agreement
        How far neighbours agree (:func:`fimp.data.statistics.neighbor_agreement`).
    """
    return 2 if agreement >= _AGREEMENT_FOR_TWO_RINGS else 1


def default_dropout(values: int) -> float:
    """Dropout for a number of training values, so that one default fits many cells and few.

    What a network fits by chance grows with one over the root of the number of values, and so does the dropout: 0.1
    from 50,000 values on, at most 0.3 below.
    """
    return min(0.3, 0.1 * max(1.0, (50_000 / max(values, 1)) ** 0.5))


def known_models() -> dict[str, ModelSpec]:
    """All registered models by name."""
    return dict(_SPECS)


def resolve(name: str, **changes: Any) -> ModelChoice:
    """Understand a model's name, such as ``gcn+mean``, ``fimp-base:no-edges`` or ``fimp:FOLDER:no-edges,train=frozen``.

    Parameters
    ----------
    name
        Name, with an optional way to fill in after a plus sign and an optional control after a colon.
    **changes
        Hyperparameters other than the defaults.

    Raises
    ------
    FIMPError
        If the model, the way to fill in, the control or a hyperparameter is unknown.
    """
    fill = ""
    plain, comma, options = name.partition(",")
    base, _, control = plain.rpartition(":")
    spec, table = (_foundation(base + comma + options, name), None) if control in CONTROLS else (None, None)
    if spec is None:
        spec, control = _foundation(name, name), ""
    if spec is None:
        base, _, control = plain.partition(":")
        base, plus, fill = base.partition("+")
        spec = _SPECS.get(base)
        if spec is not None and plus:
            _check_fill(name, fill, spec)
        table = _gene_table(name, options, spec)
    if spec is None:
        raise FIMPError(
            f"--models: {name!r} is unknown; known are {', '.join([*_SPECS, *map('{}:FOLDER'.format, KINDS)])}"
        )
    if control and control not in CONTROLS:
        raise FIMPError(f"--models: control {control!r} of {name!r} is unknown; known are {', '.join(CONTROLS)}")
    unknown = set(changes) - set(Hyperparameters.__dataclass_fields__)
    if unknown:
        known = ", ".join(Hyperparameters.__dataclass_fields__)
        raise FIMPError(f"{name}: hyperparameter {sorted(unknown)[0]!r} is unknown; known are {known}")
    return ModelChoice(name, spec, control or None, replace(spec.defaults, **changes), table, fill or None)


def _check_fill(name: str, fill: str, spec: ModelSpec) -> None:
    if fill not in FILLS:
        raise FIMPError(f"--models: {fill!r} of {name!r} is no way to fill in; known are {', '.join(FILLS)}")
    if spec.input != "vectors":
        raise FIMPError(f"--models: {name!r}: {spec.name} needs nothing filled in; leave out '+{fill}'")


def _gene_table(name: str, options: str, spec: ModelSpec | None) -> str | None:
    """The file in ``genes=FILE``, the only option of models that are no checkpoint."""
    key, _, value = options.partition("=")
    if not options or spec is None:
        return None
    if key.strip() != "genes" or not value.strip() or "," in value:
        raise FIMPError(
            f"--models: {options!r} of {name!r} is no option; known is genes=FILE, gene embeddings to start from"
        )
    if spec.input != "tokens":
        raise FIMPError(
            f"--models: {spec.name} has no tokens of genes, but {name!r} gives embeddings; use it with fimp-base"
        )
    return value.strip()


def _foundation(plain: str, name: str) -> ModelSpec | None:
    """The spec of ``fimp:FOLDER`` or ``fm:FOLDER``, which goes by a name; None for anything else."""
    choice = parse(plain)
    if choice is None:
        return None
    if plain != name and not choice.graph:
        raise FIMPError(f"--models: {name!r}: fm: hears no neighbours anyway; use fimp:, or leave out the control")

    def build(h: Hyperparameters, model: FoundationModel) -> Backbone:
        # That module builds on this one.
        from fimp.models.foundation import FoundationBackbone

        return FoundationBackbone(choice, h, model)

    description = KINDS["fimp" if choice.graph else "fm"]
    defaults = Hyperparameters(lr=1e-3, weight_decay=1e-2)
    return ModelSpec(name, description, "foundation", build, defaults, foundation=choice)


def resolve_all(names: str) -> list[ModelChoice]:
    """Understand a comma-separated list of models.

    Raises
    ------
    FIMPError
        If it is empty, or names something unknown or something twice.
    """
    parts = split_names(names)
    if not parts:
        raise FIMPError(f"--models: empty; name one or more of {', '.join(_SPECS)}")
    for part in parts:
        if parts.count(part) > 1:
            raise FIMPError(f"--models: {part!r} is named {parts.count(part)} times; name it once")
    return [resolve(part) for part in parts]
