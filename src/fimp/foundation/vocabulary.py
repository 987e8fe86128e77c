"""Which tokens of a model are the genes of a data set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.data.columns import listed
from fimp.data.genes import plain_name
from fimp.errors import FIMPError
from fimp.foundation.hf import read_json


@dataclass(frozen=True)
class GeneMatch:
    """Genes of a data set in a vocabulary.

    Attributes
    ----------
    ids
        Token of every gene ``[G]``, -1 where there is none.
    exact, mapped, alike
        How many genes were found by their name, by the mapping file, and without regard to case and to the version of
        an Ensembl id.
    unmatched
        Genes without a token, in their order.
    """

    ids: NDArray[np.int64]
    exact: int
    mapped: int
    alike: int
    unmatched: list[str]

    @property
    def report(self) -> str:
        """One line: how many genes were found, in which way, and which were not."""
        total, missing = len(self.ids), len(self.unmatched)
        ways = [f"{self.exact:,} by name"]
        ways += [f"{self.mapped:,} by the mapping"] * bool(self.mapped)
        ways += [f"{self.alike:,} without regard to case or Ensembl version"] * bool(self.alike)
        lost = f"; {missing:,} not: {listed(self.unmatched, 5)}" if missing else ""
        return f"genes: the model knows {total - missing:,} of {total:,} ({', '.join(ways)}){lost}"


def match_vocabulary(
    genes: Sequence[str],
    vocabulary: Mapping[str, int],
    mapping: Mapping[str, str] | None = None,
    *,
    name: str = "data",
) -> GeneMatch:
    """Find the tokens of genes.

    A gene is looked for by its name; then under the name that the mapping gives it; then, by that name where there is
    one and else by its own, without regard to case (``Actb`` of mouse is ``ACTB`` of human) and to the version of an
    Ensembl id, as far as that is unambiguous.
    No token stands for two genes: the earlier way wins, then the earlier gene.

    Parameters
    ----------
    genes
        Names of the genes, G of them.
    vocabulary
        Name to token. Names in angle brackets (``<pad>``) are no genes.
    mapping
        Name in the data to name in the vocabulary (:func:`read_mapping`).
    name
        Name of the data in messages.

    Raises
    ------
    FIMPError
        If no gene is found.
    """
    known = {gene: token for gene, token in vocabulary.items() if not is_special(gene)}
    names = Counter(plain_name(gene) for gene in known)
    plain = {like: token for gene, token in known.items() if names[like := plain_name(gene)] == 1}
    mapping = mapping or {}
    ways: list[Callable[[str], int | None]] = [
        lambda gene: known.get(gene),
        lambda gene: known.get(mapping.get(gene, "")),
        lambda gene: plain.get(plain_name(mapping.get(gene, gene))),
    ]
    ids = np.full(len(genes), -1, dtype=np.int64)
    taken: set[int] = set()
    counts = []
    for way in ways:
        before = len(taken)
        for index, gene in enumerate(genes):
            token = way(gene) if ids[index] < 0 else None
            if token is not None and token not in taken:
                ids[index] = token
                taken.add(token)
        counts.append(len(taken) - before)
    if not taken:
        raise FIMPError(
            f"{name}: the model's vocabulary has none of the {len(genes):,} genes (first: {listed(genes, 3)}; the "
            f"vocabulary's: {listed(known, 3)}); give a mapping file from these names to the vocabulary's"
        )
    unmatched = [gene for gene, token in zip(genes, ids, strict=True) if token < 0]
    return GeneMatch(ids, counts[0], counts[1], counts[2], unmatched)


def is_special(token: str) -> bool:
    """Whether a token of a vocabulary is no gene but a sign such as ``<cls>``."""
    return token.startswith("<") and token.endswith(">")


def read_mapping(path: str | Path) -> dict[str, str]:
    """Read a file that renames genes: ``.csv`` or ``.tsv`` with columns ``from`` and ``to``, or ``.json``, one object.

    Raises
    ------
    FIMPError
        If the file cannot be read, lacks the columns, or gives a gene two names.
    """
    path = Path(path)
    if path.suffix == ".json":
        content = read_json(path)
        for key, value in content.items():
            if not isinstance(value, str):
                raise FIMPError(f"{path}: entry {key!r} is {json.dumps(value)[:40]}, wanted the name of a gene as text")
        return content
    if path.suffix not in (".csv", ".tsv"):
        raise FIMPError(f"{path}: a mapping of genes ends in .csv, .tsv or .json; convert it")
    try:
        separator = "," if path.suffix == ".csv" else "\t"
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (OSError, ValueError) as error:
        found = " ".join(str(error).split())[:120]
        raise FIMPError(f"{path}: not readable as a table ({found}); write it again") from error
    for column in ("from", "to"):
        if column not in table:
            raise FIMPError(f"{path}: has columns {listed(table.columns, 5)}; wanted 'from' and 'to'")
    table = table[(table["from"] != "") & (table["to"] != "")].drop_duplicates()
    twice = table["from"][table["from"].duplicated()]
    if len(twice):
        names = listed(table["to"][table["from"] == twice.iloc[0]], 3)
        raise FIMPError(f"{path}: gene {twice.iloc[0]!r} is mapped to several names ({names}); keep one row of them")
    return dict(zip(table["from"], table["to"], strict=True))


def check_ids(ids: Tensor, size: int, name: str) -> None:
    """Raise a :class:`FIMPError` that begins with ``name`` unless ``ids`` are integers from 0 to ``size - 1``."""
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise FIMPError(f"{name} has type {ids.dtype}, wanted integers")
    # Reading numbers back from a GPU would stall it; its own kernels assert their range.
    if ids.device.type == "cpu" and ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= size):
        raise FIMPError(
            f"{name} has tokens {int(ids.min())}..{int(ids.max())}, wanted 0..{size - 1}; "
            "make them with the vocabulary of this checkpoint"
        )
