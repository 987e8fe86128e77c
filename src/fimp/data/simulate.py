"""Simulated data whose truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fimp.data.simulated_images import images
from fimp.data.simulated_recordings import recordings
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from anndata import AnnData


__all__ = ["SimulatedRecording", "images", "recording", "recordings", "sides", "tissue"]


class SimulatedRecording(NamedTuple):
    """What :func:`recording` makes.

    Attributes
    ----------
    signal
        ``[R, T]`` float32, offsets of a scanner included.
    xyz
        Places of the regions in mm, ``[R, 3]``.
    connectome
        Entry ``[i, j]`` is what region i takes over from region j in one step, ``[R, R]``.
    """

    signal: NDArray[np.float32]
    xyz: NDArray[np.float64]
    connectome: NDArray[np.float64]


def tissue(
    n_cells: int = 3000,
    n_genes: int = 24,
    n_types: int = 2,
    n_pairs: int = 6,
    strength: float = 1.0,
    seed: int = 0,
) -> AnnData:
    """A tissue in which cells of one type tell cells of another type what to express.

    For every planted pair, cells of a sender type differ in how much of a ligand gene they express, and a
    cell of the receiver type expresses the receptor gene more the more ligand the senders around it
    express. Nothing inside the receiver tells its level, so the receptor can only be predicted by who
    sees the neighbours' ligand.

    Parameters
    ----------
    n_cells, n_genes
        Size of the count matrix. Genes ``2 * n_pairs`` and up are markers of cell types.
    n_types
        Number of cell types, at least 2; they lie in mixed, smooth domains.
    n_pairs
        Number of planted ligand-receptor pairs.
    strength
        Change of the receptor's log expression per standard deviation of its neighbours' ligand;
        0 plants nothing.
    seed
        Seed of everything.

    Returns
    -------
    AnnData
        Raw counts in ``X`` (sparse ``[n_cells, n_genes]``), ``obs["cell_type"]``, ``obsm["spatial"]`` in
        micrometres and ``uns["planted_pairs"]`` with arrays ``ligand``, ``receptor``, ``sender``,
        ``receiver`` (gene and type names).

    Raises
    ------
    FIMPError
        If the sizes do not fit together.
    """
    if n_types < 2 or n_pairs < 1 or n_genes < 2 * n_pairs or n_cells < 10:
        raise FIMPError(
            f"tissue: n_cells={n_cells}, n_genes={n_genes}, n_types={n_types}, n_pairs={n_pairs}; wanted at least "
            "10 cells, 2 types, 1 pair and 2 genes per pair"
        )
    generator = np.random.default_rng([seed, 11])
    positions = _positions(n_cells, generator)
    near = _neighbors(positions, 8)
    cell_type = _types(positions, near, n_types, generator)
    log_rate = 1.2 + 0.8 * generator.standard_normal((n_types, n_genes))[cell_type]
    sender = np.arange(n_pairs) % n_types
    receiver = (sender + 1 + generator.integers(0, n_types - 1, n_pairs)) % n_types
    for pair in range(n_pairs):
        is_sender = cell_type == sender[pair]
        level = np.where(is_sender, _patches(near, generator), 0.0)
        senders = is_sender[near].sum(axis=1)
        heard = level[near].sum(axis=1) / np.maximum(senders, 1)
        hears = (cell_type == receiver[pair]) & (senders > 0)
        if hears.any():
            # Far above 0.25 in any tissue of size; a handful of receivers may hear (nearly) the same.
            heard = heard / max(float(heard[hears].std()), 0.25)
        log_rate[:, 2 * pair] = 2.0 + level
        log_rate[:, 2 * pair + 1] = 2.0 + np.where(hears, strength * heard, 0.0)
    size = np.exp(0.25 * generator.standard_normal((n_cells, 1)))
    counts = generator.poisson(size * np.exp(log_rate))
    return _to_anndata(counts, cell_type, positions, sender, receiver)


def recording(
    n_regions: int = 40,
    n_times: int = 400,
    coupling: float = 0.5,
    seed: int = 0,
    subject: int = 0,
    bond: float = 0.0,
) -> SimulatedRecording:
    """A brain recording by a linear stochastic model on a known connectome.

    ``x(t + 1) = A x(t) + noise`` with ``A = 0.97 ((1 - c) I + c W)``, where W falls off exponentially with
    distance (25 mm) and its rows sum to one: each region takes over a share c of its state from regions around it.

    Parameters
    ----------
    n_regions, n_times
        R and T.
    coupling
        The share c, from 0 to 1; at 0 regions know nothing of each other.
    seed
        Seed of places and connectome, which subjects of one seed share.
    subject
        Seed of the noise and of offsets.
    bond
        What the quarter of regions farthest to the right (:func:`sides`) take over besides from the quarter farthest to
        the left, which they hear together: times the sum of these over the root of their number. An effect to plant in
        a group of subjects; rows of the connectome then sum to more, but nothing leads back from right to left.

    Raises
    ------
    FIMPError
        If sizes or the coupling are outside their ranges.
    """
    if n_regions < 2 or n_times < 2 or not 0.0 <= coupling <= 1.0 or not bond >= 0.0:
        raise FIMPError(
            f"recording: n_regions={n_regions}, n_times={n_times}, coupling={coupling}, bond={bond}; wanted at least 2 "
            "regions, 2 times, a coupling from 0 to 1 and a bond of 0 or more"
        )
    places = np.random.default_rng([seed, 12])
    direction = places.standard_normal((n_regions, 3))
    # Ellipsoid with about the half axes of a brain.
    xyz = direction / np.linalg.norm(direction, axis=1, keepdims=True) * np.array([65.0, 85.0, 60.0])
    distance = np.linalg.norm(xyz[:, None] - xyz[None], axis=2)
    weight = np.exp(-distance / 25.0) * ~np.eye(n_regions, dtype=bool)
    weight /= weight.sum(axis=1, keepdims=True)
    # Rows sum to 0.97, so no eigenvalue is larger: the process is stable.
    connectome = 0.97 * ((1.0 - coupling) * np.eye(n_regions) + coupling * weight)
    side = sides(xyz)
    if bond:
        # Nothing else may lead back, or the process could grow without bounds.
        connectome[np.ix_(side != "right", side == "right")] = 0.0
        connectome[np.ix_(side == "right", side == "left")] += bond / max(1, (side == "left").sum()) ** 0.5
    generator = np.random.default_rng([seed, 13, subject])
    warm_up = 100
    noise = generator.standard_normal((warm_up + n_times, n_regions))
    states = np.zeros((warm_up + n_times, n_regions))
    for time in range(1, len(states)):
        states[time] = connectome @ states[time - 1] + noise[time]
    offset = generator.uniform(500.0, 1500.0, n_regions)
    return SimulatedRecording((offset + 10.0 * states[warm_up:]).T.astype(np.float32), xyz, connectome)


def sides(xyz: NDArray[np.float64]) -> NDArray[np.str_]:
    """Whether regions are of the quarter farthest to the ``left``, to the ``right``, or in the ``middle``: ``[R]``.

    Parameters
    ----------
    xyz
        Places of the regions ``[R, 3]``; the first axis runs from left to right.
    """
    quarter, rank = len(xyz) // 4, xyz[:, 0].argsort().argsort()
    return np.where(rank < quarter, "left", np.where(rank >= len(xyz) - quarter, "right", "middle"))


def _positions(count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """A jittered square grid, 10 um apart."""
    side = int(np.ceil(np.sqrt(count)))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)[:count]
    return 10.0 * (grid + generator.uniform(-0.3, 0.3, grid.shape))


def _neighbors(positions: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    from sklearn.neighbors import NearestNeighbors

    count = min(count, len(positions) - 1)
    found: NDArray[np.int64] = NearestNeighbors(n_neighbors=count).fit(positions).kneighbors(return_distance=False)
    return found


def _patches(near: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.float64]:
    """A standardised random field that agrees over about three cell diameters."""
    field = generator.standard_normal(len(near))
    for _ in range(3):
        field = 0.5 * field + 0.5 * field[near].mean(axis=1)
    return (field - field.mean()) / field.std()


def _types(
    positions: NDArray[np.float64], near: NDArray[np.int64], n_types: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Smooth domains of one prevailing type, in which most cells are of a random type."""
    fields = np.stack([generator.standard_normal(len(positions)) for _ in range(n_types)])
    for _ in range(20):
        fields = fields[:, near].mean(axis=2)
    prevailing = fields.argmax(axis=0)
    stray = generator.random(len(positions)) < 0.6
    return np.where(stray, generator.integers(0, n_types, len(positions)), prevailing)


def _to_anndata(
    counts: NDArray[np.int64],
    cell_type: NDArray[np.int64],
    positions: NDArray[np.float64],
    sender: NDArray[np.int64],
    receiver: NDArray[np.int64],
) -> AnnData:
    import anndata
    import pandas as pd
    from scipy import sparse

    n_pairs = len(sender)
    genes = [f"{kind}{pair}" for pair in range(n_pairs) for kind in ("Lig", "Rec")]
    genes += [f"Mark{index}" for index in range(counts.shape[1] - 2 * n_pairs)]
    types = np.array([f"type {chr(ord('A') + code)}" for code in range(int(cell_type.max()) + 1)])
    adata = anndata.AnnData(
        sparse.csr_matrix(counts, dtype=np.float32),
        obs=pd.DataFrame(
            {"cell_type": pd.Categorical(types[cell_type], categories=types)},
            index=[f"cell{index}" for index in range(len(counts))],
        ),
        var=pd.DataFrame(index=genes),
    )
    adata.obsm["spatial"] = positions
    adata.uns["planted_pairs"] = {
        "ligand": np.array(genes[0 : 2 * n_pairs : 2]),
        "receptor": np.array(genes[1 : 2 * n_pairs : 2]),
        "sender": types[np.minimum(sender, len(types) - 1)],
        "receiver": types[np.minimum(receiver, len(types) - 1)],
    }
    return adata
