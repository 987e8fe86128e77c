"""Cells as scGPT reads them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fimp.data.masking import CellTokens
from fimp.errors import FIMPError
from fimp.foundation.cells import CellReader
from fimp.foundation.hf import Settings
from fimp.foundation.scgpt import ScGPT, encode_values
from fimp.tokenizers import Tokens

#: What ``input_style`` of ``args.json`` may be: values in bins of the cell, or as they are.
STYLES = ("binned", "log1p", "normed_raw")
#: Value of a gene that is asked for, where ``args.json`` says nothing else.
MASK_VALUE = -1.0


class ScGPTReader(CellReader):
    """scGPT's embeddings and its expression head, for the genes of a data set.

    The model's layers are not part of it. Of the vocabulary it keeps a copy of the rows that are needed: those of the
    data's genes, and of ``<cls>``, which leads a cell's sources with the value 0, as in upstream's fine-tuning. A gene
    that the vocabulary lacks starts from the mean of those that it has.

    Parameters
    ----------
    model
        The model; its value encoder, norms and head are shared.
    ids
        Token of each gene in the model's vocabulary ``[G]``, -1 where there is none.
    gene_mean, gene_deviation
        As in :class:`CellReader`.

    Raises
    ------
    FIMPError
        If ``input_style`` of the checkpoint is unknown.
    """

    offset: Tensor

    def __init__(self, model: ScGPT, ids: Tensor, gene_mean: Tensor, gene_deviation: Tensor) -> None:
        super().__init__(gene_mean, gene_deviation)
        style = model.config.get("input_style", "binned")
        if style not in STYLES:
            raise FIMPError(f"{model.source}: input_style is {style!r} in args.json; wanted {', '.join(STYLES)}")
        self.bins = model.bins if style == "binned" else None
        settings = Settings(model.config, model.source / "args.json")
        self.mask_value = settings.get("mask_value", float, MASK_VALUE)
        table = model.gene_embedding.weight.detach()
        known = ids >= 0
        rows = table[ids.clamp(min=0)]
        rows[~known] = table[ids[known]].mean(0)
        self.gene = nn.Embedding.from_pretrained(rows, freeze=False)
        self.cls = nn.Parameter(table[model.cls_id].clone())
        self.gene_norm, self.value_norm = model.gene_norm, model.value_norm
        self.value_linear1, self.value_linear2 = model.value_linear1, model.value_linear2
        self.value_dropout, self.decoder = model.value_dropout, model.decoder
        # What a head without knowledge of genes is spared to learn; nothing for one that has it.
        self.register_buffer("offset", torch.zeros_like(gene_mean))
        # Bins become values on a line through each gene's mean, whose slope the task learns.
        self.slope = nn.Parameter(torch.ones(1)) if self.bins else None

    def start_at_mean(self) -> None:
        """See :class:`CellReader`; answers in bins are spread around the mean anyway."""
        self.start_head()
        if self.bins is None:
            self.offset.copy_(self.gene_mean - self.gene_mean.mean())

    def start_head(self) -> None:
        """Let the head answer the mean of all values, or the middle bin."""
        last = self.decoder[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias, 0.5 * (self.bins - 1) if self.bins else float(self.gene_mean.mean()))

    def freeze(self) -> None:
        """See :class:`CellReader`; the slope of bins stays free."""
        self.requires_grad_(False)
        if self.slope is not None:
            self.slope.requires_grad_(True)

    def sources(self, visible: CellTokens) -> Tokens:
        """See :class:`CellReader`; ``<cls>`` comes first, so a cell that shows nothing has a real token, too."""
        values = visible.values if self.bins is None else bin_visible(visible.values, visible.mask, self.bins)
        told = F.pad(values, (1, 0))
        names = torch.cat([self.cls.expand(len(told), 1, -1), self.gene(visible.genes)], 1)
        return Tokens(self.gene_norm(names) + self._told(told), F.pad(visible.mask, (1, 0), value=True))

    def queries(self, asked: CellTokens) -> Tensor:
        """See :class:`CellReader`; the value is upstream's mask value."""
        told = torch.full_like(asked.values, self.mask_value)
        out: Tensor = self.gene_norm(self.gene(asked.genes)) + self._told(told)
        return out

    def predict(self, h: Tensor, genes: Tensor) -> Tensor:
        """The expression head's answer; bins are spread around each gene's mean."""
        answer: Tensor = self.decoder(h).squeeze(-1)
        if self.bins is None:
            return answer + self.offset[genes]
        assert self.slope is not None
        return self.gene_mean[genes] + self.slope * self.gene_deviation[genes] * (answer / (self.bins - 1) - 0.5)

    @torch.no_grad()
    def write_back(self, model: ScGPT, ids: Tensor) -> None:
        """Put the rows of genes ``ids [G]`` and of ``<cls>`` back into the model's table."""
        model.gene_embedding.weight[ids] = self.gene.weight
        model.gene_embedding.weight[model.cls_id] = self.cls

    def _told(self, values: Tensor) -> Tensor:
        told = encode_values(values, self.value_linear1, self.value_linear2, self.value_norm)
        out: Tensor = self.value_dropout(told)
        return out


def bin_visible(values: Tensor, mask: Tensor, bins: int) -> Tensor:
    """Values of each cell in bins of its own, by quantiles of what it shows: :func:`fimp.foundation.scgpt.bin_values`.

    Zeros are bin 0 and have no part in the quantiles.

    Parameters
    ----------
    values, mask
        ``[n, S]``, mask True = real token. What is masked has no influence and becomes 0.
    bins
        Number of bins with the one for zero.

    Returns
    -------
    Tensor
        ``[n, S]``, 1 to ``bins - 1`` where the mask is True; among equal quantiles the middle one.
    """
    out = torch.zeros_like(values)
    mask = mask & (values != 0)
    counts = mask.sum(1)
    # Cells that show equally many genes are binned together, by NumPy: how it rounds quantiles decides on equals.
    for count in counts.unique().tolist():
        rows = (counts == count).nonzero()[:, 0]
        if count == 0:
            continue
        shown = values[rows][mask[rows]].view(-1, count).cpu().numpy().astype(np.float64)
        edges = np.quantile(shown, np.linspace(0, 1, bins - 1), axis=1)[:, :, None]
        upper, lower = (edges <= shown).sum(0), (edges < shown).sum(0)
        binned = torch.from_numpy(np.ceil(upper - 0.5 * (upper - lower))).to(out)
        part = torch.zeros_like(values[rows])
        part[mask[rows]] = binned.flatten()
        out[rows] = part
    return out
