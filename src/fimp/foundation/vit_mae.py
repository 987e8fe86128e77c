"""ViT-MAE with its decoder (arXiv 2111.06377): how new vision transformers are pretrained."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fimp.errors import FIMPError
from fimp.foundation.base import Rows, unfill
from fimp.foundation.folders import finite, new_folder, write_json
from fimp.foundation.hf import Settings
from fimp.foundation.masking import mask_tokens, restore_tokens
from fimp.foundation.vit import ViT, layer_tensor, tensor_names
from fimp.nn.positions import sin_cos_2d
from fimp.nn.stack_config import StackConfig
from fimp.nn.transformer import TransformerStack

#: Upstream's default.
_EPS = 1e-12


class Patches(NamedTuple):
    """Masked patches of images and what the decoder makes of them.

    Attributes
    ----------
    predicted, target
        ``[B, P, patch height * patch width * C]``; the target is normalised within the patch.
    mask
        True where the encoder did not see the patch, ``[B, P]``.
    """

    predicted: Tensor
    target: Tensor
    mask: Tensor


class ViTMAE(nn.Module):
    """A vision transformer and a decoder that predicts the pixels of patches that the encoder has not seen.

    Positions are fixed sines and cosines; targets are normalised within each patch (upstream's ``norm_pix_loss``).

    Parameters
    ----------
    settings
        Content of a ``config.json`` of model type ``vit_mae``.

    Raises
    ------
    FIMPError
        If the configuration does not make sense.
    """

    positions: Tensor

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.vit = ViT(settings, pooler=False)
        dim, width = self.vit.stack.config.dim, settings.get("decoder_hidden_size", int)
        self.mask_ratio = settings.get("mask_ratio", float, 0.75)
        height, columns = (a // b for a, b in zip(self.vit.image_size, self.vit.patch_size, strict=True))
        channels = self.vit.patches.in_channels
        config = StackConfig(
            dim=width,
            heads=settings.get("decoder_num_attention_heads", int),
            hidden=settings.get("decoder_intermediate_size", int),
            layers=settings.get("decoder_num_hidden_layers", int),
            norm="pre",
            activation=settings.get("hidden_act", str, "gelu"),
            eps=settings.get("layer_norm_eps", float, _EPS),
        )
        self.embed, self.mask_token = nn.Linear(dim, width), nn.Parameter(torch.zeros(1, 1, width))
        self.stack, self.norm = TransformerStack(config), nn.LayerNorm(width, eps=config.eps)
        self.out = nn.Linear(width, self.vit.patch_size[0] * self.vit.patch_size[1] * channels)
        self.register_buffer("positions", _positions(height, columns, width))
        self._draw(height, columns)

    @torch.no_grad()
    def _draw(self, rows: int, columns: int) -> None:
        """Initial weights as in the paper's code."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.vit.patches.weight.view(self.vit.patches.out_channels, -1))
        for token in (self.vit.get_parameter("cls_token"), self.mask_token):
            nn.init.normal_(token, std=0.02)
        self.vit.positions.copy_(_positions(rows, columns, self.vit.stack.config.dim))
        self.vit.positions.requires_grad_(False)

    def forward(self, pixel_values: Tensor, noise: Tensor | None = None) -> Patches:
        """Hide patches and predict them from the others.

        Parameters
        ----------
        pixel_values
            ``[B, C, height, width]`` of the model's image size, normalised.
        noise
            ``[B, P]``: the patches with the least of it are shown; drawn by default.
        """
        masked = mask_tokens(self.vit.embed(pixel_values), self.mask_ratio, noise)
        latent = self.vit.final_norm(self.vit.stack.encode(masked.h))
        h = self.embed(latent)
        h = torch.cat([h[:, :1], restore_tokens(h[:, 1:], self.mask_token, masked.ids_restore)], 1)
        h = self.norm(self.stack.encode(h + self.positions))
        return Patches(self.out(h[:, 1:]), self.targets(pixel_values), masked.mask)

    def targets(self, pixel_values: Tensor) -> Tensor:
        """Pixels of every patch, normalised within it: ``[B, C, height, width]`` to ``[B, P, values]``."""
        high, wide = self.vit.patch_size
        patches = pixel_values.unflatten(3, (-1, wide)).unflatten(2, (-1, high))
        pixels = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        variance, mean = torch.var_mean(pixels, dim=2, keepdim=True)
        return (pixels - mean) / (variance + 1e-6).sqrt()


def new_vit_mae(
    image_size: int,
    patch_size: int,
    *,
    dim: int = 128,
    layers: int = 4,
    heads: int = 4,
    hidden: int = 256,
    decoder_dim: int = 64,
    decoder_layers: int = 2,
    mask_ratio: float = 0.75,
    dropout: float = 0.0,
) -> ViTMAE:
    """An untrained model for square images in colour.

    Parameters
    ----------
    image_size, patch_size
        Side of images and of patches, in pixels.
    dim, layers, heads, hidden, dropout
        Of the encoder: width D, layers, attention heads, width of the feed-forward networks, dropout.
    decoder_dim, decoder_layers
        Of the decoder, which has the same number of heads and feed-forward networks of twice its width.
    mask_ratio
        Share of patches that are hidden.

    Raises
    ------
    FIMPError
        If sizes do not fit together.
    """
    if patch_size < 1 or image_size < patch_size or image_size % patch_size:
        raise FIMPError(f"patch size {patch_size} does not divide image size {image_size}; use 8 and 64, for instance")
    for name, width in (("dim", dim), ("decoder_dim", decoder_dim)):
        if width % 4 or width % max(1, heads):
            raise FIMPError(f"{name}={width} is no multiple of 4 and of heads={heads}; use 128 and 4, for instance")
    count = (image_size // patch_size) ** 2
    if not 0.0 < mask_ratio < 1.0 or int(count * (1.0 - mask_ratio)) in (0, count):
        raise FIMPError(f"mask_ratio={mask_ratio}: hides none or all of {count} patches; use 0.75, or smaller patches")
    config = {
        "architectures": ["ViTMAEForPreTraining"],
        "model_type": "vit_mae",
        "hidden_size": dim,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
        "hidden_act": "gelu",
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "initializer_range": 0.02,
        "layer_norm_eps": _EPS,
        "image_size": image_size,
        "patch_size": patch_size,
        "num_channels": 3,
        "qkv_bias": True,
        "decoder_hidden_size": decoder_dim,
        "decoder_num_hidden_layers": decoder_layers,
        "decoder_num_attention_heads": heads,
        "decoder_intermediate_size": 2 * decoder_dim,
        "mask_ratio": mask_ratio,
        "norm_pix_loss": True,
    }
    return ViTMAE(Settings(config, Path("config.json")))


def save_vit_mae(model: ViTMAE, folder: Path) -> None:
    """Write ``config.json``, ``preprocessor_config.json`` and ``model.safetensors``: a whole folder or nothing.

    The folder opens as ``ViTMAEForPreTraining`` in the transformers library, too.

    Raises
    ------
    FIMPError
        If the folder exists or cannot be written, or weights are NaN or infinite.
    """
    weights = finite(unfill(model, _names(model)), folder)
    images = model.vit.images
    with new_folder(folder) as temporary:
        write_json(temporary / "config.json", model.vit.config)
        write_json(
            temporary / "preprocessor_config.json",
            {
                "image_processor_type": "ViTImageProcessor",
                "do_resize": True,
                "do_rescale": True,
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": list(images.mean),
                "image_std": list(images.std),
                "size": {"height": images.size[0], "width": images.size[1]},
            },
        )
        contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
        save_file(contiguous, temporary / "model.safetensors", metadata={"format": "pt"})


def _positions(rows: int, columns: int, dim: int) -> Tensor:
    """Of CLS, which has none, and of the patches: ``[1, 1 + P, D]``."""
    return torch.cat([torch.zeros(1, dim), sin_cos_2d(rows, columns, dim)])[None]


def _names(model: ViTMAE) -> dict[str, str | Rows]:
    """For every weight of the model its name in the file."""
    decoder = {
        "embed": "decoder.decoder_embed",
        "mask_token": "decoder.mask_token",
        "positions": "decoder.decoder_pos_embed",
        "norm": "decoder.decoder_norm",
        "out": "decoder.decoder_pred",
    }
    names: dict[str, str | Rows] = {f"vit.{own}": name for own, name in tensor_names(model.vit, "vit.").items()}
    for own in model.state_dict():
        module, _, rest = own.partition(".")
        if module == "stack":
            names[own] = layer_tensor(own, "decoder.decoder_layers", model.stack.config)
        elif module != "vit":
            names[own] = ".".join([decoder[module], *([rest] if rest else [])])
    return names
