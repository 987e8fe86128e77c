"""Whether attention leads with the pairs that were planted in simulated data."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from fimp.analysis.token_attention import TokenAttention
from fimp.errors import FIMPError
from fimp.train.runs import write_json

#: Name of the file that says it, beside the ranked pairs.
PLANTED = "planted.json"


@dataclass(frozen=True)
class Lead:
    """Where some pairs are in the ranked list.

    Attributes
    ----------
    k
        Number of the pairs.
    precision
        Share of them among the k pairs that lead the list.
    chance
        Share of them in the whole list, which is what a list in random order has at its head on average.
    auroc
        Chance that one of them ranks above a random other pair, 0.5 in random order; NaN where none of them, or
        nothing else, is ranked.
    """

    k: int
    precision: float
    chance: float
    auroc: float


@dataclass(frozen=True)
class PlantedLead:
    """Where planted pairs are among the pairs that a model's attention ranks.

    Attributes
    ----------
    model, seed
        The model.
    edges
        Which edges were looked at.
    ranked
        Number of ranked pairs.
    pairs
        The planted pairs, receiver's token first.
    planted
        Of these pairs.
    either
        Of the same pairs in both directions, twice as many: where two genes vary together, each tells about the other.
    """

    model: str
    seed: int
    edges: str
    ranked: int
    pairs: list[tuple[str, str]]
    planted: Lead
    either: Lead

    @property
    def sentence(self) -> str:
        """The numbers in a line."""
        one, both = self.planted, self.either
        return (
            f"planted pairs: precision at {one.k} {one.precision:.2f} (by chance {one.chance:.2f}), AUROC "
            f"{one.auroc:.2f}; in either direction, precision at {both.k} {both.precision:.2f} (by chance "
            f"{both.chance:.2f}), AUROC {both.auroc:.2f}"
        )

    def write(self, folder: Path) -> None:
        """Write ``planted.json``, whole or not at all."""
        write_json(folder / PLANTED, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``planted.json``.

        Raises
        ------
        FIMPError
            If it is not what ``fimp attention`` writes.
        """
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            pairs = [(str(receiver), str(sender)) for receiver, sender in stored["pairs"]]
            planted, either = (_lead(**stored[name]) for name in ("planted", "either"))
            names = str(stored["model"]), int(stored["seed"]), str(stored["edges"]), int(stored["ranked"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FIMPError(f"{path}: cannot be read ({error}); run fimp attention again") from error
        return cls(*names, pairs, planted, either)


def planted_pairs(source: Any, genes: Collection[str]) -> list[tuple[str, str]]:
    """Receptor and ligand of each pair that was planted in cells, where the cells say so in ``uns["planted_pairs"]``.

    Parameters
    ----------
    source
        AnnData, file or name of a dataset, see :func:`fimp.data.simulate.tissue`.
    genes
        Known genes; pairs with others are left out.
    """
    from fimp.data.reading import open_source

    with open_source(source) as (adata, _):
        pairs = adata.uns.get("planted_pairs")
        if not isinstance(pairs, Mapping) or not {"receptor", "ligand"} <= set(pairs):
            return []
        receptors, ligands = list(pairs["receptor"]), list(pairs["ligand"])
    if len(receptors) != len(ligands):  # somebody's own, not the simulator's
        return []
    found = [(str(a), str(b)) for a, b in zip(receptors, ligands, strict=True)]
    return [pair for pair in found if set(pair) <= set(genes)]


def planted_lead(
    attention: TokenAttention, pairs: Sequence[tuple[str, str]], model: str, seed: int, edges: str
) -> PlantedLead:
    """Find planted pairs in the ranked list.

    Parameters
    ----------
    attention
        The attention, in which at least one pair is ranked.
    pairs
        Receiver's and sender's token of each planted pair.
    model, seed, edges
        What to say of where it comes from.

    Raises
    ------
    FIMPError
        If a token is unknown.
    """
    one = list(dict.fromkeys(pairs))
    both = list(dict.fromkeys([*one, *((sender, receiver) for receiver, sender in one)]))
    ranked = len(attention.order())
    return PlantedLead(model, seed, edges, ranked, one, _of(attention, one), _of(attention, both))


def _of(attention: TokenAttention, pairs: Sequence[tuple[str, str]]) -> Lead:
    receivers, senders = zip(*pairs, strict=True)
    ranked = len(attention.order())
    found = int(np.isfinite(attention.pair_scores(receivers, senders)).sum())
    auroc = attention.auroc(receivers, senders) if 0 < found < ranked else float("nan")
    return Lead(len(pairs), attention.precision_at(len(pairs), receivers, senders), found / ranked, auroc)


def _lead(k: int, precision: float, chance: float, auroc: float | None) -> Lead:
    return Lead(int(k), float(precision), float(chance), float("nan") if auroc is None else float(auroc))
