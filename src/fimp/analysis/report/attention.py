"""The section on attention: what ``fimp attention RUN --out RUN/attention`` wrote."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection
from pathlib import Path

from fimp.analysis.planted import PLANTED, PlantedLead
from fimp.analysis.report.found import FoundRun
from fimp.analysis.report.page import Section, Table, image
from fimp.errors import FIMPError
from fimp.models.checkpoints import short_name

#: Folder of the figures within a run, rows of the table that are shown.
FOLDER, _ROWS = "attention", 15
#: What the figures show, in the order in which they are shown; others come after them.
_TITLES = {
    "heatmap": "how much rows look at columns, on average over edges, and beyond what each of the two explains",
    "pairs": "the pairs with most attention beyond what each of the two explains",
    "contrast": "where two groups differ",
    "regions": "attention between regions of the brain",
    "regions_contrast": "where two groups differ, in the brain",
    "patches": "what images look at in their neighbours",
}


def attention_section(run: FoundRun) -> Section | None:
    """Figures and leading pairs of attention; None where none were made.

    Of simulated data, it says where the planted pairs are, also in other runs of the comparison that attention was
    written for: with shuffled edges they should be nowhere.

    Raises
    ------
    FIMPError
        If ``pairs.csv`` is no table, ``planted.json`` does not say where planted pairs are, or a figure is no image.
    """
    folders = [one / FOLDER for one in dict.fromkeys((run.folder, run.shown)) if (one / FOLDER).is_dir()]
    if not folders:
        return None
    folder, section = folders[0], Section("attention", "Attention")
    for path in sorted(folder.glob("*.png"), key=_place):
        said = _TITLES.get(path.stem, path.stem.replace("_", " ").replace("-", " "))
        section.parts.append(image(path, f"Attention: {said}", f"{said[:1].upper()}{said[1:]} ({FOLDER}/{path.name})."))
    own = PlantedLead.read(folder / PLANTED) if (folder / PLANTED).exists() else None
    if own is not None:
        others = [] if run.comparison is None else sorted(run.comparison.glob(f"runs/*/seed*/{FOLDER}/{PLANTED}"))
        leads = [PlantedLead.read(path) for path in others if path.parent != folder]
        section.parts.append(_planted([own, *leads]))
    if (folder / "pairs.csv").exists():
        section.parts.append(_pairs(folder / "pairs.csv", set() if own is None else set(own.pairs)))
    return section if section.parts else None


def _planted(leads: list[PlantedLead]) -> Table:
    """How far up the ranked list planted pairs are, a row per run and direction; the first run stands out."""
    rows = []
    for lead in leads:
        for direction, one in (("as planted", lead.planted), ("either", lead.either)):
            shares = ("–" if math.isnan(share) else f"{share:.2f}" for share in (one.precision, one.chance, one.auroc))
            rows.append([short_name(lead.model), str(lead.seed), lead.edges, direction, str(one.k), *shares])
    return Table(
        f"Planted pairs of genes among {leads[0].ranked:,} ranked pairs: precision at k, the share of them among the k "
        "pairs that lead, where k is their number; and AUROC, by chance 0.5",
        ["model", "seed", "edges", "direction", "k", "precision at k", "by chance", "AUROC"],
        rows,
        (1, 4, 5, 6, 7),
        (0, 1),
    )


def _pairs(path: Path, planted: Collection[tuple[str, str]]) -> Table:
    """The leading pairs; those that were planted stand out."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FIMPError(f"{path}: cannot be read ({error}); run fimp attention again") from error
    if not rows:
        raise FIMPError(f"{path}: is empty; run fimp attention again")
    header, body = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    shown = [[_short(cell) for cell in row] for row in body[:_ROWS]]
    numbers = tuple(k for k in range(len(header)) if shown and all(_is_number(row[k]) for row in shown))
    caption = f"The first {len(shown)} of {len(body):,} ranked pairs ({FOLDER}/pairs.csv)"
    strong = tuple(k for k, row in enumerate(body[:_ROWS]) if tuple(row[:2]) in planted)
    return Table(f"{caption}; planted ones stand out" if strong else caption, header, shown, numbers, strong)


def _place(path: Path) -> tuple[int, str]:
    """Where a figure comes."""
    known = list(_TITLES)
    return (known.index(path.stem) if path.stem in known else len(known)), path.name


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _short(cell: str) -> str:
    """Numbers with the digits that a reader can use."""
    return f"{float(cell):.4g}" if _is_number(cell) and not cell.isdigit() else cell
