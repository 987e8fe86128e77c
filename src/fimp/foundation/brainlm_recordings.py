"""Windows of brain regions as BrainLM reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fimp.tokenizers.base import Tokens
from fimp.tokenizers.window import WindowInputs

if TYPE_CHECKING:
    from fimp.foundation.brainlm import BrainLM


class RecordingReader(nn.Module):
    """What tasks on recordings ask of a model: token states before its layers, region by region.

    A region is a sequence of its own: CLS, then its patches in their order, with the model's projections of values and
    of coordinates and its encoding of time. Patches of the task may be several of the model's. Hidden ones are masked
    in what a region tells; in what is asked, a learned mask token, which upstream has in its decoder alone, says so.

    Parameters
    ----------
    model
        The model, whose embeddings are shared.

    Attributes
    ----------
    patch
        Time points of the model's patches.
    notes
        What a user should know.
    """

    def __init__(self, model: BrainLM) -> None:
        super().__init__()
        self.model, self.patch = model, model.patch
        self.notes: Sequence[str] = ()
        self.mask_token = nn.Parameter(torch.zeros(model.stack.config.dim))

    def freeze(self) -> None:
        """Keep the embeddings as they are in training; the mask token is new, and learned."""
        self.model.requires_grad_(False)

    def told(self, content: WindowInputs) -> Tokens:
        """What regions show: ``h [n, 1 + T, D]``, and a mask of CLS and what is visible."""
        return Tokens(self._embed(content), ~self._hidden(content))

    def queries(self, content: WindowInputs) -> Tensor:
        """What is asked of regions, all of their patches: ``[n, 1 + T, D]``."""
        return self._embed(content) + self._hidden(content)[:, :, None] * self.mask_token

    def _embed(self, content: WindowInputs) -> Tensor:
        signal = torch.where(content.hidden[:, :, None], 0.0, content.values).flatten(1)
        return self.model.embed(signal[:, None], content.xyz[:, None])

    def _hidden(self, content: WindowInputs) -> Tensor:
        """Which tokens are hidden, ``[n, 1 + T]``; CLS never is."""
        times = content.values.size(2) // self.patch
        hidden = content.hidden.repeat_interleave(times, 1)
        return torch.cat([torch.zeros_like(hidden[:, :1]), hidden], 1)
