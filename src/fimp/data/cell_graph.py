"""The graph of cells that readers make, and what a model remembers of it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch_geometric.data import Data

from fimp.data.disk_matrix import DiskMatrix, Values


@dataclass(frozen=True)
class CellReference:
    """What a trained model fixes about the cells it reads.

    Attributes
    ----------
    gene_names
        Its genes, in order.
    target_total
        Total that the counts of a cell are scaled to; None where values are not counts.
    classes
        Names of its classes; None where it does not classify.
    share
        Share of a cell's counts that its genes had in training (:func:`fimp.data.matrix.kept_share`); None where
        values are not counts.
    """

    gene_names: tuple[str, ...]
    target_total: float | None
    classes: tuple[str, ...] | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        # A stored configuration gives lists back.
        object.__setattr__(self, "gene_names", tuple(self.gene_names))
        object.__setattr__(self, "classes", None if self.classes is None else tuple(self.classes))


class CellGraph(Data):  # type: ignore[misc]
    """A graph of cells with the attributes that :func:`fimp.data.load_cells` documents.

    The properties below may be None, which PyG would lose and then raise.
    """

    def _optional(self, key: str) -> Any:
        return self[key] if key in self._store else None

    @property
    def scale(self) -> Tensor | None:
        """Factors of counts."""
        return self._optional("scale")

    @property
    def target_total(self) -> float | None:
        """Total that counts are scaled to."""
        return self._optional("target_total")

    @property
    def section(self) -> Tensor | None:
        """Section of each cell."""
        return self._optional("section")

    @property
    def section_names(self) -> list[str] | None:
        """Names of sections."""
        return self._optional("section_names")

    @property
    def held_out(self) -> Tensor | None:
        """Cells of test sections."""
        return self._optional("held_out")

    @property
    def classes(self) -> list[str] | None:
        """Names of classes."""
        return self._optional("classes")

    @property
    def values(self) -> Values:
        """Values ``[N, G]``, sharing memory with ``x``, or on disk."""
        return cell_values(self)

    @property
    def reference(self) -> CellReference:
        """What a model trained on this graph needs to read other cells: ``load_cells(..., reference=)``."""
        classes = None if self.classes is None else tuple(self.classes)
        return CellReference(tuple(self.gene_names), self.target_total, classes, self._optional("share"))


def to_torch(values: sparse.csr_matrix) -> Tensor:
    """SciPy CSR to torch CSR."""
    with warnings.catch_warnings():
        # torch calls its whole CSR layout a beta; only storage is used here.
        warnings.filterwarnings("ignore", message=".*Sparse CSR.*")
        return torch.sparse_csr_tensor(
            torch.from_numpy(values.indptr.astype(np.int64)),
            torch.from_numpy(values.indices.astype(np.int64)),
            torch.from_numpy(np.ascontiguousarray(values.data)),
            size=values.shape,
            check_invariants=False,
        )


def cell_values(data: Data) -> Values:
    """Values ``[N, G]`` of a graph of cells, sharing memory with ``x``, or on disk."""
    return data.x if isinstance(data.x, DiskMatrix) else to_scipy(data.x)


def to_scipy(x: Tensor) -> sparse.csr_matrix:
    """Torch CSR to SciPy CSR, sharing memory."""
    parts = (x.values().numpy(), x.col_indices().numpy(), x.crow_indices().numpy())
    return sparse.csr_matrix(parts, shape=tuple(x.shape))
