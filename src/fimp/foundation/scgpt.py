"""scGPT (Cui et al. 2024, doi 10.1038/s41592-024-02201-0); its files are read in :mod:`fimp.foundation.scgpt_files`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fimp.errors import FIMPError
from fimp.foundation.base import FoundationModel
from fimp.foundation.cells import CellReader
from fimp.foundation.hf import Settings
from fimp.foundation.vocabulary import GeneMatch, check_ids, match_vocabulary
from fimp.nn.stack_config import StackConfig
from fimp.nn.transformer import TransformerStack

#: Values above are taken as this one.
_MAX_VALUE = 512.0


class ScGPT(FoundationModel):
    """scGPT, converted (doi 10.1038/s41592-024-02201-0).

    Parameters
    ----------
    settings
        Content of ``args.json``.
    vocabulary
        Gene or special token to token id, 0 to n - 1.
    source
        The folder.
    classes
        Number of classes of the classifier; None if there is none.
    mvc
        Whether there is a head that predicts values from the cell embedding.

    Attributes
    ----------
    vocabulary
        As above.
    pad_id, cls_id
        Tokens of ``<pad>`` and ``<cls>``.
    pad_value
        The value that goes with them.
    bins
        Number of bins of values (:func:`bin_values`).

    Raises
    ------
    FIMPError
        If ``args.json`` lacks a setting, or one is outside its range.
    """

    def __init__(
        self,
        settings: Settings,
        vocabulary: dict[str, int],
        source: Path,
        classes: int | None = None,
        mvc: bool = True,
    ) -> None:
        dim, dropout = settings.get("embsize", int), settings.get("dropout", float)
        config = StackConfig(
            dim=dim,
            heads=settings.get("nheads", int),
            hidden=settings.get("d_hid", int),
            layers=settings.get("nlayers", int),
            dropout=dropout,
        )
        super().__init__("scgpt", settings.values, TransformerStack(config), source)
        self.vocabulary = vocabulary
        self.pad_id, self.cls_id = vocabulary[settings.get("pad_token", str)], vocabulary["<cls>"]
        self.pad_value, self.bins = settings.get("pad_value", float), settings.get("n_bins", int, 51)
        if self.bins < 3:
            raise FIMPError(f"{settings.path}: 'n_bins' is {self.bins}, wanted at least 3; fetch the file again")
        self.gene_embedding = nn.Embedding(len(vocabulary), dim)
        self.gene_norm = nn.LayerNorm(dim)
        self.value_linear1, self.value_linear2 = nn.Linear(1, dim), nn.Linear(dim, dim)
        self.value_norm, self.value_dropout = nn.LayerNorm(dim), nn.Dropout(dropout)
        self.decoder = nn.Sequential(
            nn.Linear(dim, dim), nn.LeakyReLU(), nn.Linear(dim, dim), nn.LeakyReLU(), nn.Linear(dim, 1)
        )
        self.classifier = None
        if classes is not None:
            hidden = range(settings.get("n_layers_cls", int) - 1)
            parts = [part for _ in hidden for part in (nn.Linear(dim, dim), nn.ReLU(), nn.LayerNorm(dim))]
            self.classifier = nn.Sequential(*parts, nn.Linear(dim, classes))
        self.mvc_query = nn.Linear(dim, dim) if mvc else None
        self.mvc_weight = nn.Linear(dim, dim, bias=False) if mvc else None

    @property
    def gene_table(self) -> Tensor:
        """Embeddings of genes and special tokens."""
        return self.gene_embedding.weight

    def reader(self, genes: Sequence[str], gene_mean: Tensor, gene_deviation: Tensor) -> CellReader:
        """The model's own embeddings and expression head for the genes that it knows."""
        from fimp.foundation.scgpt_cells import ScGPTReader

        match = self.match(genes)
        reader = ScGPTReader(self, torch.from_numpy(match.ids), gene_mean, gene_deviation)
        reader.notes = (match.report,)
        return reader

    @property
    def vocabulary_size(self) -> int:
        """Number of genes and special tokens."""
        return len(self.vocabulary)

    def embed_genes(self, gene_ids: Tensor) -> Tensor:
        """Gene embeddings without values, after their norm: tokens ``[N, T]`` to ``[N, T, D]``.

        Raises
        ------
        FIMPError
            If a token is not in the vocabulary.
        """
        check_ids(gene_ids, len(self.vocabulary), "ScGPT.embed: gene_ids")
        return self.gene_norm(self.gene_embedding(gene_ids))

    def embed(self, gene_ids: Tensor, values: Tensor) -> Tensor:
        """Token states that the stack takes.

        Parameters
        ----------
        gene_ids
            Tokens, ``[N, T]``.
        values
            Their (binned) values, ``[N, T]``.

        Returns
        -------
        Tensor
            ``[N, T, D]``.

        Raises
        ------
        FIMPError
            If shapes differ or a token is not in the vocabulary.
        """
        if gene_ids.dim() != 2 or gene_ids.shape != values.shape:
            raise FIMPError(
                f"ScGPT.embed: gene_ids has shape {list(gene_ids.shape)}, values has shape {list(values.shape)}; "
                "wanted both [N, T]"
            )
        told = encode_values(values, self.value_linear1, self.value_linear2, self.value_norm)
        return self.embed_genes(gene_ids) + self.value_dropout(told)

    def token_mask(self, gene_ids: Tensor) -> Tensor:
        """Which tokens are real: ``[N, T]``, False at ``<pad>``."""
        return gene_ids != self.pad_id

    def expression_head(self, h: Tensor) -> Tensor:
        """Predicted values of tokens, ``[N, T, D]`` to ``[N, T]``."""
        return self.decoder(h).squeeze(-1)

    def cell_embedding(self, h: Tensor) -> Tensor:
        """Cell embeddings ``[N, D]`` of unit length: the state of ``<cls>``, which is the first token."""
        return F.normalize(h[:, 0], dim=-1)

    def mvc_head(self, cell: Tensor, gene_ids: Tensor) -> Tensor:
        """Values of genes as predicted from the cell alone.

        Parameters
        ----------
        cell
            State of ``<cls>``, ``[N, D]``, not normalised.
        gene_ids
            Genes asked for, ``[N, T]``.

        Returns
        -------
        Tensor
            ``[N, T]``.

        Raises
        ------
        FIMPError
            If the checkpoint has no such head.
        """
        if self.mvc_query is None or self.mvc_weight is None:
            raise FIMPError(f"{self.source}: the checkpoint has no mvc_decoder; use expression_head")
        query = self.mvc_weight(torch.sigmoid(self.mvc_query(self.embed_genes(gene_ids))))
        return (query @ cell[:, :, None]).squeeze(-1)

    def classify(self, cell: Tensor) -> Tensor:
        """Scores of classes ``[N, C]`` from the state of ``<cls>``, ``[N, D]``, not normalised.

        Raises
        ------
        FIMPError
            If the checkpoint has no classifier.
        """
        if self.classifier is None:
            raise FIMPError(f"{self.source}: the checkpoint has no cls_decoder; train a head of your own")
        return self.classifier(cell)

    def match(self, genes: Sequence[str], mapping: Mapping[str, str] | None = None, *, name: str = "data") -> GeneMatch:
        """Tokens of genes; see :func:`fimp.foundation.vocabulary.match_vocabulary`."""
        return match_vocabulary(genes, self.vocabulary, mapping or self.gene_mapping, name=name)

    def tokenize(
        self,
        values: ArrayLike,
        ids: ArrayLike,
        *,
        max_tokens: int | None = None,
        rng: np.random.Generator | None = None,
        cls_value: float | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cells as upstream's cell embedding takes them: ``<cls>``, then the expressed genes with binned values.

        Parameters
        ----------
        values
            Expression, ``[N, G]``.
        ids
            Token of every gene ``[G]``; genes with -1 are left out (:attr:`GeneMatch.ids`).
        max_tokens
            Longest sequence, ``<cls>`` included. Of cells with more genes, ``rng`` draws which stay; without it the
            first do.
        rng
            Draws these, and bins among equals (:func:`bin_values`).
        cls_value
            Value of ``<cls>``; the padding value by default, as in upstream's cell embedding. Its fine-tuning gives 0.

        Returns
        -------
        tuple of Tensor
            Tokens ``[N, T]``, values ``[N, T]`` and mask ``[N, T]``, True = real token.

        Raises
        ------
        FIMPError
            If shapes do not fit, or ``max_tokens`` is below 2.
        """
        matrix, tokens = np.asarray(values, dtype=np.float64), np.asarray(ids, dtype=np.int64)
        if matrix.ndim != 2 or tokens.shape != matrix.shape[1:]:
            raise FIMPError(
                f"ScGPT.tokenize: values has shape {list(matrix.shape)}, ids has shape {list(tokens.shape)}; "
                "wanted [N, G] and [G]"
            )
        if max_tokens is not None and max_tokens < 2:
            raise FIMPError(f"ScGPT.tokenize: max_tokens={max_tokens}, wanted at least 2: <cls> and a gene")
        matrix, tokens = matrix[:, tokens >= 0], tokens[tokens >= 0]
        binned = bin_values(matrix, self.bins, rng)
        chosen = [row.nonzero()[0] for row in matrix]
        if max_tokens is not None:
            most = max_tokens - 1
            chosen = [
                one if len(one) <= most else one[:most] if rng is None else rng.permutation(one)[:most]
                for one in chosen
            ]
        longest = max((len(one) for one in chosen), default=0)
        gene_ids = torch.full((len(matrix), 1 + longest), self.pad_id)
        told = torch.full(gene_ids.shape, self.pad_value)
        gene_ids[:, 0] = self.cls_id
        if cls_value is not None:
            told[:, 0] = cls_value
        for row, one in enumerate(chosen):
            gene_ids[row, 1 : 1 + len(one)] = torch.from_numpy(tokens[one])
            told[row, 1 : 1 + len(one)] = torch.from_numpy(binned[row, one]).to(told.dtype)
        return gene_ids, told, self.token_mask(gene_ids)


def encode_values(values: Tensor, first: nn.Linear, second: nn.Linear, norm: nn.Module) -> Tensor:
    """Value encoder of scGPT: values ``[N, T]`` to ``[N, T, D]``.

    Parameters
    ----------
    values
        Values, or numbers of bins; larger ones than upstream's limit count as that.
    first, second, norm
        Its layers, with a ReLU between the linear ones.
    """
    shown = values.to(first.weight.dtype).clamp(max=_MAX_VALUE)[..., None]
    out: Tensor = norm(second(F.relu(first(shown))))
    return out


def bin_values(values: ArrayLike, bins: int = 51, rng: np.random.Generator | None = None) -> NDArray[np.int64]:
    """Values of each cell in bins of its own, as upstream does it.

    Zeros are bin 0. The others are compared with ``bins - 1`` quantiles of the cell's nonzero values. Where several
    quantiles equal a value, it may go to any of the bins between them: upstream draws one.

    Parameters
    ----------
    values
        ``[N, G]``, or one cell ``[G]``.
    bins
        Number of bins with the one for zero; 51 in the published models.
    rng
        Draws bins among equals. Without it a value gets the middle one.

    Returns
    -------
    ndarray
        Shape of ``values``, 0 to ``bins - 1``.

    Raises
    ------
    FIMPError
        If ``bins`` is below 3, or a value is negative, infinite or not a number.
    """
    matrix = np.asarray(values)
    if bins < 3:
        raise FIMPError(f"bin_values: bins={bins}, wanted at least 3: one for zero and two for values")
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise FIMPError("bin_values: values has negative, infinite or missing entries, wanted expression of at least 0")
    binned = np.zeros(matrix.shape, dtype=np.int64)
    for row, out in zip(np.atleast_2d(matrix), np.atleast_2d(binned), strict=True):
        where = row.nonzero()[0]
        if not len(where):
            continue
        expressed = row[where]
        edges = np.quantile(expressed, np.linspace(0, 1, bins - 1))
        upper, lower = np.digitize(expressed, edges), np.digitize(expressed, edges, right=True)
        draw = np.full(len(where), 0.5) if rng is None else rng.random(len(where))
        out[where] = np.ceil(upper - draw * (upper - lower)).astype(np.int64)
    return binned
