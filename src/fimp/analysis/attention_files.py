"""What is written of a study of attention: arrays, tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fimp.analysis.attention_study import AttentionStudy
from fimp.analysis.brain import region_figure
from fimp.analysis.heatmap import attention_figure, contrast_figure
from fimp.analysis.overlays import overlay_figure
from fimp.analysis.ranked import pairs_figure
from fimp.estimators import GraphModel, ImageModel

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def write_study(
    folder: Path, study: AttentionStudy, model: GraphModel, layer: int | None = None, adata: AnnData | None = None
) -> None:
    """Write ``attention.npz``, ``pairs.csv``, and what else there is: tables, figures, an AnnData.

    Parameters
    ----------
    folder
        An empty folder.
    study
        What was found.
    model
        The model it was found in, whose images are drawn.
    layer
        Layer of a foundation model, for what is drawn over images.
    adata
        Cells to write a copy of, with the results in ``uns["fimp_attention"]``.
    """
    attention, contrast = study.attention, study.contrast
    pairs = pair_table(study)
    arrays = _arrays(study)
    with (folder / "attention.npz").open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    pairs.to_csv(folder / "pairs.csv", index=False, float_format="%.6g")
    if study.by_type is not None:
        study.by_type.to_csv(folder / "pairs_by_type.csv", index=False, float_format="%.6g")
    attention_figure(attention, folder / "heatmap.png")
    if len(attention.order()):
        pairs_figure(attention, folder / "pairs.png", set() if study.planted is None else set(study.planted.pairs))
    if study.planted is not None:
        study.planted.write(folder)
    if contrast is not None:
        contrast_figure(contrast, attention, folder / "contrast.png")
    if study.xyz is not None:
        region_figure(attention.mean, study.xyz, attention.what, folder / "regions.png")
        if contrast is not None:
            title = f"{contrast.groups[0]} − {contrast.groups[1]}"
            region_figure(contrast.difference, study.xyz, title, folder / "regions_contrast.png", signed=True)
    if isinstance(model, ImageModel):
        overlay_figure(model, folder / "patches.png", study.choice, layer)
    if adata is not None:
        stored: dict[str, Any] = {**arrays, "pairs": _plain(pairs)}
        if study.by_type is not None:
            stored["pairs_by_type"] = _plain(study.by_type)
        adata.uns["fimp_attention"] = stored
        adata.write_h5ad(folder / "attention.h5ad")


def pair_table(study: AttentionStudy) -> pd.DataFrame:
    """The ranked pairs of a study, with both groups, difference, p and q where groups were compared."""
    table, contrast = study.attention.ranked(), study.contrast
    if contrast is None:
        return table
    row = {name: place for place, name in enumerate(study.attention.rows)}
    column = {name: place for place, name in enumerate(study.attention.columns)}
    places = table["receiver"].map(row).to_numpy(), table["sender"].map(column).to_numpy()
    for title, values in (
        (f"attention_{contrast.groups[0]}", contrast.first),
        (f"attention_{contrast.groups[1]}", contrast.second),
        ("difference", contrast.difference),
        ("p", contrast.p),
        ("q", contrast.q),
    ):
        table[title] = values[places]
    return table


def _arrays(study: AttentionStudy) -> dict[str, Any]:
    attention, contrast = study.attention, study.contrast
    found = {
        "mean": attention.mean,
        "count": attention.count,
        "specific": attention.specific(),
        "receivers": np.array(attention.rows),
        "senders": np.array(attention.columns),
        "what": np.array(attention.what),
    }
    if contrast is not None:
        found["groups"] = np.array(contrast.groups)
        found |= {name: getattr(contrast, name) for name in ("first", "second", "difference", "p", "q")}
    return found


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """A table of columns that an .h5ad file of any anndata can hold."""
    plain = table.copy()
    if "rank" in plain:
        plain["rank"] = plain["rank"].astype("float64")
    plain.index = plain.index.astype(str)
    return plain
