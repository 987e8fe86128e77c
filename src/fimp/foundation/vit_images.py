"""Images as a vision transformer reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fimp.tokenizers import Tokens
from fimp.tokenizers.patch import ImageInputs

if TYPE_CHECKING:
    from fimp.foundation.vit import ViT


class ImageReader(nn.Module):
    """What tasks on images ask of a model: token states before its layers.

    Images are normalised as the model expects them; position embeddings are interpolated to their size.

    Parameters
    ----------
    model
        The model, whose embeddings are shared.

    Attributes
    ----------
    notes
        What a user should know.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: ViT) -> None:
        super().__init__()
        self.model = model
        self.notes: Sequence[str] = ()
        self.register_buffer("mean", torch.tensor(model.images.mean))
        self.register_buffer("std", torch.tensor(model.images.std))

    def freeze(self) -> None:
        """Keep the embeddings as they are in training."""
        self.requires_grad_(False)

    def told(self, content: ImageInputs) -> Tokens:
        """All that images show: ``h [n, T, D]`` of class tokens and patches, and a mask that is True everywhere."""
        h = self.model.embed(content.normalised(self.mean, self.std))
        return Tokens(h, torch.ones(h.shape[:2], dtype=torch.bool, device=h.device))
