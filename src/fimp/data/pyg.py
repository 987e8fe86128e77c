"""Datasets of PyTorch Geometric by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch_geometric.data import Data

from fimp.errors import FIMPError

#: Class in ``torch_geometric.datasets`` and its arguments, by the name a user gives.
PYG_DATASETS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: ("Planetoid", {"name": name}) for name in ("Cora", "CiteSeer", "PubMed")},
    **{name: ("WebKB", {"name": name}) for name in ("Texas", "Cornell", "Wisconsin")},
    "Actor": ("Actor", {}),
    **{name: ("WikipediaNetwork", {"name": name.lower()}) for name in ("Chameleon", "Squirrel")},
    **{
        name: ("HeterophilousGraphDataset", {"name": name})
        for name in ("Minesweeper", "Roman-empire", "Amazon-ratings", "Tolokers", "Questions")
    },
    **{name: ("Amazon", {"name": name}) for name in ("Computers", "Photo")},
    **{name: ("Coauthor", {"name": name}) for name in ("CS", "Physics")},
}


def canonical_name(name: str) -> str | None:
    """The spelling in :data:`PYG_DATASETS` (capitals do not matter), or None."""
    return {known.lower(): known for known in PYG_DATASETS}.get(name.lower())


def load_pyg(name: str) -> Data:
    """A dataset, downloaded by PyG into the user's cache when it is first asked for.

    PyG fetches the files of Planetoid as pickles from their authors and opens them.

    Parameters
    ----------
    name
        A key of :data:`PYG_DATASETS`.

    Raises
    ------
    FIMPError
        If it cannot be had.
    """
    import pooch
    from torch_geometric import datasets

    kind, arguments = PYG_DATASETS[name]
    root = Path(pooch.os_cache("fimp")) / "pyg" / kind
    try:
        return getattr(datasets, kind)(str(root), **arguments)[0]
    # Failures of networks, archives and caches arrive as whatever PyG's helpers stumble over first.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise FIMPError(
            f"{name}: PyG's {kind} cannot be had ({type(error).__name__}: {reason}); connect to a network, "
            f"remove {root} if it is damaged, or pass an .npz file"
        ) from error
