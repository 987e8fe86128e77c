"""Everything that is asked of a trained model's attention at once: edges, groups, contrast, types of cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fimp.analysis.attention import DRAWS, Ledger, collect
from fimp.analysis.cell_columns import cell_types, named_column, read_obs
from fimp.analysis.contrast import PERMUTATIONS, Contrast, ContrastSums
from fimp.analysis.planted import PlantedLead, planted_lead, planted_pairs
from fimp.analysis.stream import EdgeChoice
from fimp.analysis.token_attention import TokenAttention
from fimp.analysis.token_names import token_names
from fimp.analysis.type_pairs import TypePairSums
from fimp.analysis.units import SUBJECT_COLUMNS, Units, cell_units, cut_in_two, read_column, subject_units, two_of
from fimp.data.columns import Coded, encode, listed
from fimp.data.disk_matrix import column_sums
from fimp.errors import FIMPError
from fimp.estimators import CellModel, ExpressionModel, GraphModel, ImageModel, NodeModel, RecordingModel

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class AttentionOptions:
    """What is asked.

    Attributes
    ----------
    edges
        ``self``, ``neighbors`` or ``all``.
    between
        Type of the sending and of the receiving cells; None for all.
    label
        Column of obs with the types; recognised by default.
    group_by
        Table of the network of each region, columns ``region`` and ``network``.
    contrast
        Column of obs, or of the table of subjects, whose two values are compared.
    groups, cut
        Which two values; or a number at which they are cut in two.
    subjects
        Table of subjects.
    unit, blocks
        Column of obs with exchangeable units; or blocks of space along each axis.
    layer
        Layer of a foundation model.
    draws
        Draws of visible and hidden genes of cells.
    permutations
        Permutations of a test.

    Raises
    ------
    FIMPError
        If a value is outside its range, or ``edges`` is unknown.
    """

    edges: str = "neighbors"
    between: tuple[str, str] | None = None
    label: str | None = None
    group_by: Path | None = None
    contrast: str | None = None
    groups: tuple[str, str] | None = None
    cut: float | None = None
    subjects: Path | None = None
    unit: str | None = None
    blocks: int = 6
    layer: int | None = None
    draws: int = DRAWS
    permutations: int = PERMUTATIONS

    def __post_init__(self) -> None:
        EdgeChoice(self.edges)
        for name, value, least in (("--draws", self.draws, 1), ("--permutations", self.permutations, 99)):
            if value < least:
                raise FIMPError(f"{name}: {value} is below {least}; leave it out for the default")


@dataclass(frozen=True)
class AttentionStudy:
    """What was found.

    Attributes
    ----------
    attention
        Of all chosen edges.
    choice
        Which edges these are.
    contrast
        Of two groups, where it was asked for.
    by_type
        Leading pairs of genes by types of the two cells, for cells with types.
    xyz
        Coordinates of the rows, where they are regions, ``[R, 3]``.
    planted
        Where pairs of genes that were planted in simulated data are in the ranked list; None where none were.
    notes
        Remarks for the user.
    """

    attention: TokenAttention
    choice: EdgeChoice
    contrast: Contrast | None
    by_type: pd.DataFrame | None
    xyz: Any
    planted: PlantedLead | None
    notes: tuple[str, ...]


def attention_study(model: GraphModel, source: Any, options: AttentionOptions = AttentionOptions()) -> AttentionStudy:
    """Aggregate a model's attention as asked, in one pass over the edges.

    Parameters
    ----------
    model
        A trained model.
    source
        What its data was read from: for cells, columns of obs are looked up there.
    options
        What is asked.

    Raises
    ------
    FIMPError
        If the model has no cross-node attention, or cannot be asked that.
    """
    _check(model, options)
    task = model.task_on(None)
    groups = None
    if options.group_by is not None:
        groups = read_column(options.group_by, "network", ("region", "name"), "--group-by")
    names = token_names(model, task, groups)
    obs = read_obs(source, model.data) if _needs_obs(model, source, options) else None
    types = None
    if isinstance(model, CellModel) and obs is not None:
        # Other cells may not have the column that the model was trained to predict.
        own = model.config.data.label if model.config.data.label in obs else None
        types = cell_types(obs, options.label or own, model.data.name)
    choice = _choice(model, options, None if types is None else types[1])
    ledgers, sums, by_type = [], None, None
    if options.contrast is not None:
        sums = ContrastSums(_units(model, task, obs, options), len(names.rows), len(names.columns))
        ledgers.append(Ledger(sums.sums, sums.layer_of))
    if types is not None and len(types[1].names) > 1:
        frequency = column_sums(model.data.values, counts=True).astype(np.int64)
        by_type = TypePairSums(types[1], names.rows, names.columns, frequency)
        ledgers.append(Ledger(by_type, by_type.layer_of))
    attention = collect(model, task, names, choice, options.draws, options.layer, ledgers)
    contrast = None if sums is None else sums.contrast(options.permutations, model.config.seed)
    notes = [] if contrast is None else [f"contrast: {contrast.note}"]
    if types is not None:
        notes.append(f"cell types: obs[{types[0]!r}]")
    by_regions = isinstance(model, RecordingModel) and groups is None
    return AttentionStudy(
        attention,
        choice,
        contrast,
        None if by_type is None else by_type.table(),
        task.xyz.double().numpy() if by_regions else None,
        _planted(model, source, attention, choice),
        tuple(notes),
    )


def _check(model: GraphModel, options: AttentionOptions) -> None:
    cells, recordings = isinstance(model, CellModel), isinstance(model, RecordingModel)
    if options.layer is not None and model.choice.spec.foundation is None:
        raise FIMPError(f"--layer: {model.config.model} is no foundation model, its last layer is shown; leave it out")
    if options.between is not None and recordings:
        raise FIMPError("--between: is for cells and labelled nodes; sum regions up into networks with --group-by")
    if options.contrast is not None and not (cells or recordings):
        raise FIMPError(f"--contrast: compares cells or recordings, and these are {model.nodes}; leave it out")
    if options.contrast is not None and recordings and options.subjects is None:
        raise FIMPError("--contrast: needs a table of subjects; give it with --subjects")
    for flag, given, fits in (
        ("--label", options.label, cells),
        ("--unit", options.unit, cells),
        ("--subjects", options.subjects, recordings),
    ):
        if given is not None and not fits:
            raise FIMPError(f"{flag}: does not fit {model.nodes}; leave it out")


def _needs_obs(model: GraphModel, source: Any, options: AttentionOptions) -> bool:
    """Whether columns of obs are looked up: always for cells, unless nobody asks and they are not at hand."""
    if not isinstance(model, CellModel):
        return False
    asked = (options.between, options.label, options.contrast, options.unit)
    return source is not None or any(one is not None for one in asked)


def _choice(model: GraphModel, options: AttentionOptions, types: Coded | None) -> EdgeChoice:
    if options.between is None:
        return EdgeChoice(options.edges)
    if isinstance(model, (ImageModel, NodeModel)) and model.data.get("y") is not None:
        names = getattr(model, "classes", None) or [str(code) for code in range(model.task.num_classes)]
        types = Coded(model.data.y.numpy(), list(names), "text")
    if types is None:
        raise FIMPError("--between: no column of cell types was recognised; name it with --label")
    for name in options.between:
        if name not in types.names:
            raise FIMPError(f"--between: {name!r} is no type of {model.nodes}; types are {listed(types.names, 20)}")
    sender, receiver = (types.codes == types.names.index(name) for name in options.between)
    return EdgeChoice(options.edges, sender, receiver)


def _units(model: GraphModel, task: Any, obs: pd.DataFrame | None, options: AttentionOptions) -> Units:
    assert options.contrast is not None
    column = options.contrast
    if isinstance(model, RecordingModel):
        import pandas as pd

        assert options.subjects is not None
        of_subject = read_column(options.subjects, column, SUBJECT_COLUMNS, "--subjects")
        # Numbers of a table of text are numbers; who is not recorded has no part.
        recorded = {item.subject for item in task.recordings.recordings}
        of_subject = {name: value for name, value in of_subject.items() if name in recorded}
        coded = encode(pd.Series(list(of_subject.values()), dtype=object))
    else:
        assert obs is not None
        coded = named_column(obs, column, model.data.name, "--contrast")
    if options.cut is not None:
        coded = cut_in_two(coded, options.cut, column)
    groups, code = two_of(coded, options.groups, column)
    if isinstance(model, RecordingModel):
        return subject_units(task, groups, dict(zip(of_subject, code.tolist(), strict=True)))
    assert obs is not None
    unit = None if options.unit is None else named_column(obs, options.unit, model.data.name, "--unit")
    return cell_units(model.data, groups, code, unit, options.blocks)


def _planted(model: GraphModel, source: Any, attention: TokenAttention, choice: EdgeChoice) -> PlantedLead | None:
    if not isinstance(model, ExpressionModel) or source is None or isinstance(source, (list, tuple)):
        return None
    pairs = planted_pairs(source, model.data.gene_names)
    if not pairs or not len(attention.order()):
        return None
    edges = choice.kind if choice.senders is None else f"{choice.kind}, of two types"
    return planted_lead(attention, pairs, model.config.model, model.config.seed, edges)
