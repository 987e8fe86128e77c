"""Pretrain a vision transformer on images without labels and without a graph, as a masked autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.data.hashing import hash_uniform
from fimp.data.pixels import Pixels, colours, with_margin
from fimp.data.subgraph import Subgraph
from fimp.foundation.vit_mae import ViTMAE, new_vit_mae
from fimp.models.registry import ModelChoice
from fimp.tasks.base import Network
from fimp.train.fit import Fitted
from fimp.train.foundation.masked import Filled, MaskedPretraining, fit_new
from fimp.train.options import TrainOptions


@dataclass(frozen=True)
class ViTSize:
    """Sizes of a new model, as in :func:`fimp.foundation.vit_mae.new_vit_mae`."""

    image_size: int = 64
    patch_size: int = 8
    dim: int = 128
    layers: int = 4
    heads: int = 4
    hidden: int = 256
    decoder_dim: int = 64
    decoder_layers: int = 2
    mask_ratio: float = 0.75
    dropout: float = 0.0

    def __post_init__(self) -> None:
        # Sizes that do not fit together must come to light before anything is read or written.
        self.build()

    def build(self) -> ViTMAE:
        """A new model."""
        return new_vit_mae(**vars(self))

    @property
    def decoded(self) -> int:
        """Side of the images that training crops its squares from."""
        return with_margin(self.image_size)


class Views(NamedTuple):
    """Views of some images.

    Attributes
    ----------
    pixels
        ``[n, 3, size, size]`` uint8.
    noise
        ``[n, P]``: what decides which patches are hidden.
    """

    pixels: Tensor
    noise: Tensor

    def take(self, n: int) -> Views:
        """The first n images."""
        return Views(self.pixels[:n], self.noise[:n])

    def to(self, device: torch.device) -> Views:
        """Both parts on a device."""
        return Views(self.pixels.to(device), self.noise.to(device))


class ViTPretraining(MaskedPretraining):
    """Hidden patches of images. In training, squares are cropped at random and mirrored; validation sees the middle.

    Parameters
    ----------
    pixels
        Images of side ``size.decoded``.
    size
        Size of the model.
    seed
        Seed of split, masks, views and initial weights.
    """

    def __init__(self, pixels: Pixels, size: ViTSize, seed: int) -> None:
        super().__init__(len(pixels), seed)
        self.pixels, self.size = pixels, size

    def inputs(self, nodes: NDArray[np.int64], epoch: int) -> Views:
        """Views of some images in an epoch."""
        side, patches = self.size.image_size, (self.size.image_size // self.size.patch_size) ** 2
        views = torch.from_numpy(self.pixels.views(nodes, side, epoch, self.seed)).permute(0, 3, 1, 2)
        noise = hash_uniform(self.seed, 42, epoch, nodes[:, None], np.arange(patches))
        return Views(views, torch.from_numpy(noise).float())

    def network(self, choice: ModelChoice) -> _ViTNetwork:
        """A new model, normalised by the colours of training images."""
        model = self.size.build()
        mean, std = colours(self.pixels, self.split["train"])
        model.vit.images = model.vit.images._replace(mean=mean, std=std)
        return _ViTNetwork(model)


class _ViTNetwork(Network):
    def __init__(self, autoencoder: ViTMAE) -> None:
        super().__init__()
        self.autoencoder, self.hops = autoencoder, 0

    def forward(self, views: Views, graph: Subgraph) -> Filled:
        images = self.autoencoder.vit.images
        mean, std = (views.noise.new_tensor(part)[:, None, None] for part in (images.mean, images.std))
        return Filled(*self.autoencoder((views.pixels / 255 - mean) / std, views.noise))


def pretrain_vit(
    pixels: Pixels,
    size: ViTSize,
    train: TrainOptions,
    seed: int = 0,
    lr: float = 1e-3,
    folder: Path | None = None,
    **arguments: Any,
) -> tuple[ViTMAE, Fitted]:
    """Pretrain a new vision transformer on images, each on its own.

    Parameters
    ----------
    pixels
        The images, from :func:`fimp.data.pixels.read_pixels` with side ``size.decoded``.
    size, train, seed
        Sizes of the model, training, and seed of everything that is drawn.
    lr
        Peak learning rate.
    folder, **arguments
        As for :func:`fimp.train.fit.fit`, resume included.

    Returns
    -------
    tuple
        The model, in evaluation mode, and how it was trained.
    """
    task = ViTPretraining(pixels, size, seed)
    fitted = fit_new(task, train, lr, folder, **arguments)
    assert isinstance(fitted.network, _ViTNetwork)
    return fitted.network.autoencoder, fitted
