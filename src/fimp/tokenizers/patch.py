"""Nodes that are images: every patch is a token."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.nn.positions import sin_cos_2d
from fimp.tokenizers.base import Tokens

#: Channels that say where a patch is, as a share of the width.
_PLACE_SHARE = 4


class ImageInputs(NamedTuple):
    """Images of n nodes.

    Attributes
    ----------
    pixels
        ``[n, 3, height, width]`` uint8.
    """

    pixels: Tensor

    def take(self, n: int) -> ImageInputs:
        """The first n images."""
        return ImageInputs(self.pixels[:n])

    def to(self, device: torch.device) -> ImageInputs:
        """On a device."""
        return ImageInputs(self.pixels.to(device))

    def normalised(self, mean: Tensor, std: Tensor) -> Tensor:
        """Values from 0 to 1, less the mean and divided by the deviation ``[3]`` of each channel, ``[n, 3, h, w]``."""
        # In place: of a batch's memory these floats are the largest part.
        return (self.pixels / 255).sub_(mean[:, None, None]).div_(std[:, None, None])


class PatchTokenizer(nn.Module):
    """Cut images into patches and project each to a token; where it is stands in channels of its own.

    The positional encoding, fixed sines and cosines of row and column, is concatenated to the projection, not added
    (arXiv 2210.09475, B.2).

    Parameters
    ----------
    image_size, patch_size
        Side of the images and of the patches, in pixels.
    dim
        Width D, a multiple of 16.
    channels
        Channels C.

    Raises
    ------
    FIMPError
        If patches do not fill the images, or the width does not fit.
    """

    place: Tensor

    def __init__(self, image_size: int, patch_size: int, dim: int, channels: int = 3) -> None:
        super().__init__()
        if patch_size < 1 or image_size < patch_size or image_size % patch_size:
            raise FIMPError(
                f"PatchTokenizer: patch size {patch_size} does not divide image size {image_size}; use 16 and 96, "
                "for instance"
            )
        if dim < 16 or dim % 16:
            raise FIMPError(f"PatchTokenizer: dim={dim}, wanted a multiple of 16")
        self.image_size, self.patch_size = image_size, patch_size
        side, places = image_size // patch_size, dim // _PLACE_SHARE
        self.project = nn.Conv2d(channels, dim - places, patch_size, patch_size)
        self.register_buffer("place", sin_cos_2d(side, side, places), persistent=False)

    def forward(self, images: Tensor) -> Tokens:
        """Make tokens.

        Parameters
        ----------
        images
            ``[n, C, image_size, image_size]``, of the order of 1.

        Returns
        -------
        Tokens
            ``h [n, P, D]``, row by row, and a mask that is True everywhere.

        Raises
        ------
        FIMPError
            If the images are of another size.
        """
        wanted = [self.project.in_channels, self.image_size, self.image_size]
        if images.dim() != 4 or list(images.shape[1:]) != wanted:
            raise FIMPError(f"PatchTokenizer: images have shape {list(images.shape)}, wanted [n, {wanted}]")
        patches = self.project(images).flatten(2).transpose(1, 2)
        h = torch.cat([patches, self.place.to(patches.dtype).expand(len(patches), -1, -1)], 2)
        return Tokens(h, torch.ones(h.shape[:2], dtype=torch.bool, device=h.device))


class PatchEncoder(nn.Module):
    """Images, normalised and encoded.

    Parameters
    ----------
    kind
        ``"tokens"`` or ``"vectors"``, as in :class:`fimp.models.ModelSpec`.
    mean, std
        Mean and standard deviation of each channel in training images ``[3]``, values from 0 to 1.
    image_size, patch_size
        Side of the images and of the patches, in pixels.
    dim
        Width D, of tokens and of the projection of flattened pixels.
    dropout
        Probability with which a channel of that projection is left out.

    Attributes
    ----------
    out_dim
        D.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, kind: str, mean: Tensor, std: Tensor, image_size: int, patch_size: int, dim: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.out_dim, self.dropout = dim, dropout
        self.whole = nn.Linear(3 * image_size**2, dim)
        if kind == "tokens":
            self.tokenizer = PatchTokenizer(image_size, patch_size, dim)
            self.update = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def vectors(self, content: ImageInputs) -> Tensor:
        """A projection of the flattened pixels, ``[n, D]`` (B.2)."""
        pixels = content.normalised(self.mean, self.std).flatten(1)
        return F.dropout(self.whole(pixels), self.dropout, self.training)

    def told(self, content: ImageInputs, graph: Subgraph) -> tuple[Tensor, Tokens]:
        """Tokens that sum up the nodes ``[n, 1, D]``, and the patches of those within one hop ``[n_1, P, D]``."""
        near = content.take(graph.num_nodes[1])
        patches: Tokens = self.tokenizer(near.normalised(self.mean, self.std))
        whole = self.vectors(content)
        return (whole + self.update(whole)).unsqueeze(1), patches

    def identities(self, content: ImageInputs) -> Tensor:
        """Which patch each of the sources of :meth:`told` is, row by row: ``[n, P]``."""
        patches = (self.tokenizer.image_size // self.tokenizer.patch_size) ** 2
        return torch.arange(patches, device=content.pixels.device).expand(len(content.pixels), -1)
