"""Vision transformers of the transformers library: ViT, DeiT, DINOv2 and the encoder of ViT-MAE."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fimp.errors import FIMPError
from fimp.foundation.base import FoundationModel, Rows, fill
from fimp.foundation.hf import Settings, model_type, naming, read_json, read_weights
from fimp.foundation.registry import Family, register
from fimp.foundation.vit_images import ImageReader
from fimp.nn.stack_config import ACTIVATIONS, StackConfig
from fimp.nn.transformer import TransformerStack


class Images(NamedTuple):
    """The images that a model expects; values run from 0 to 1 before they are normalised.

    Attributes
    ----------
    mean, std
        Mean that is taken from each channel and standard deviation that it is divided by.
    size
        Height and width.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class Kind:
    """What tells one ``model_type`` from another.

    Attributes
    ----------
    prefix
        What names of the encoder's weights begin with in models that have a head.
    mean, std
        Normalisation of colour images where the folder states none.
    special
        Names of the tokens before those of the patches.
    eps, patch
        Epsilon of the layer norms and patch size where the configuration states none.
    """

    prefix: str
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    special: tuple[str, ...] = ("cls_token",)
    eps: float = 1e-12
    patch: int = 16


#: By ``model_type``.
KINDS = {
    "vit": Kind("vit.", mean=(0.5,) * 3, std=(0.5,) * 3),
    "deit": Kind("deit.", special=("cls_token", "distillation_token")),
    "dinov2": Kind("dinov2.", eps=1e-6, patch=14),
    "vit_mae": Kind("vit."),
}

#: Model types that a user may take for one of the above, but which compute something else.
_OTHERS = ("beit", "data2vec-vision", "dinov2_with_registers", "dinov3_vit", "swin", "swinv2", "vit_msn")

#: Weights that have no part in the encoder: heads, the decoder of masked autoencoders, the token of masked patches.
_UNUSED = ("classifier.*", "cls_classifier.*", "distillation_classifier.*", "decoder.*", "*embeddings.mask_token")

#: Own names of a layer's modules to those in the file.
_LAYER = {
    "q_proj": "attention.attention.query",
    "k_proj": "attention.attention.key",
    "v_proj": "attention.attention.value",
    "out_proj": "attention.output.dense",
}
_VIT_LAYER = _LAYER | {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
}
_DINOV2_LAYER = _LAYER | {
    "norm1": "norm1",
    "norm2": "norm2",
    "linear1": "mlp.fc1",
    "linear2": "mlp.fc2",
    "scale1": "layer_scale1.lambda1",
    "scale2": "layer_scale2.lambda1",
}


class ViT(FoundationModel):
    """A vision transformer (arXiv 2010.11929), converted.

    Patches of an image are tokens, after a CLS token and, in DeiT (arXiv 2012.12877), a distillation token.

    Layers are pre-norm; ``final_norm`` follows the last one. Source: the models of these names in the transformers
    library.

    Parameters
    ----------
    settings
        Content of ``config.json``; ``preprocessor_config.json`` beside it, if there, says what ``images`` it expects.
    pooler
        Whether the checkpoint has a pooler.

    Raises
    ------
    FIMPError
        If the configuration is not one of :data:`KINDS` or does not make sense.
    """

    def __init__(self, settings: Settings, pooler: bool) -> None:
        kind = KINDS[settings.get("model_type", str)]
        stack = TransformerStack(_stack_config(settings))
        dim, channels = stack.config.dim, settings.get("num_channels", int, 3)
        norm = nn.LayerNorm(dim, eps=stack.config.eps)
        super().__init__("vit", settings.values, stack, settings.path.parent, norm)
        self.special = kind.special
        self.patch_size = settings.pair("patch_size", kind.patch)
        self.image_size = settings.pair("image_size", 224)
        if min(self._grid(*self.image_size)) < 1:
            raise FIMPError(f"image_size {self.image_size} is smaller than patch_size {self.patch_size}")
        rows, columns = self._grid(*self.image_size)
        pooled = settings.get("pooler_output_size", int, dim)
        for name, value in (("num_channels", channels), ("pooler_output_size", pooled)):
            if value < 1:
                raise FIMPError(f"{name!r} is {value}, wanted at least 1")
        self.patches = nn.Conv2d(channels, dim, self.patch_size, self.patch_size)
        self.images = _images(settings)
        for name in kind.special:
            self.register_parameter(name, nn.Parameter(torch.zeros(1, 1, dim)))
        self.positions = nn.Parameter(torch.zeros(1, len(kind.special) + rows * columns, dim))
        self.pooler = nn.Linear(dim, pooled) if pooler else None
        self.pooler_activation = settings.get("pooler_act", str, "tanh")
        if self.pooler_activation not in _POOLER:
            raise FIMPError(f"pooler_act {self.pooler_activation!r} is unknown; known are {', '.join(_POOLER)}")

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Tokens of images, position embeddings added.

        Images of another size than the model's own get position embeddings enlarged or shrunk by bicubic
        interpolation. Pixels that do not fill a patch, at the right and at the bottom, are left out, as upstream does.

        Parameters
        ----------
        pixel_values
            ``[B, C, height, width]``, normalised as ``images`` says.

        Returns
        -------
        Tensor
            ``[B, T, D]``: CLS, the distillation token of DeiT, then patches row by row.

        Raises
        ------
        FIMPError
            If the shape is another, or the images are smaller than one patch.
        """
        if pixel_values.dim() != 4 or pixel_values.size(1) != self.patches.in_channels:
            raise FIMPError(
                f"pixel_values: shape {list(pixel_values.shape)}, wanted [B, C, height, width] "
                f"with {self.patches.in_channels} channels; convert the images"
            )
        height, width = pixel_values.shape[2:]
        if min(self._grid(height, width)) < 1:
            raise FIMPError(
                f"pixel_values: images of {height} x {width} are smaller than a patch of "
                f"{self.patch_size[0]} x {self.patch_size[1]}; enlarge them"
            )
        patches = self.patches(pixel_values.to(self.patches.weight.dtype))
        special = [getattr(self, name).expand(len(patches), -1, -1) for name in self.special]
        tokens = torch.cat([*special, patches.flatten(2).transpose(1, 2)], 1)
        return tokens + self._positions(patches.size(2), patches.size(3))

    def image_reader(self) -> ImageReader:
        """Images as the model reads them."""
        return ImageReader(self)

    def pool(self, h: Tensor) -> Tensor:
        """One vector per image from the last layer's output: ``[B, T, D]`` to ``[B, D]`` (or the pooler's width).

        It is the CLS token after the final norm and, where the checkpoint has one, the pooler.
        """
        first = self.final_norm(h[:, 0])
        return first if self.pooler is None else _POOLER[self.pooler_activation](self.pooler(first))

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches."""
        return height // self.patch_size[0], width // self.patch_size[1]

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Position embeddings of a grid of patches, special tokens first."""
        grid = self._grid(*self.image_size)
        if (rows, columns) == grid:
            return self.positions
        special, patches = self.positions.tensor_split([len(self.special)], 1)
        picture = patches.unflatten(1, grid).permute(0, 3, 1, 2)
        # In half precision the resampling shifts the embeddings.
        picture = F.interpolate(picture.float(), (rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([special, picture.flatten(2).transpose(1, 2).to(special.dtype)], 1)


_POOLER = {"tanh": torch.tanh, **ACTIVATIONS}


def load(folder: Path) -> ViT:
    """Read a folder as ``save_pretrained`` writes it.

    Weights may be those of the bare model or of one with a head; the head is left out. The pooler is kept where there
    is one.

    Raises
    ------
    FIMPError
        If the model type is none of :data:`KINDS`, files are missing or damaged, or weights and configuration do not
        fit.
    """
    settings = Settings(read_json(folder / "config.json"), folder / "config.json")
    found = settings.get("model_type", str)
    if found not in KINDS:
        raise FIMPError(f"{settings.path}: model_type {found!r} is not supported; supported are {', '.join(KINDS)}")
    state, source = read_weights(folder)
    prefix = KINDS[found].prefix if any(key.startswith(KINDS[found].prefix) for key in state) else ""
    with naming(settings.path):
        model = ViT(settings, f"{prefix}pooler.dense.weight" in state)
    fill(model, state, tensor_names(model, prefix), source=source, known_unused=_UNUSED)
    return model


def _stack_config(settings: Settings) -> StackConfig:
    kind = settings.get("model_type", str)
    dim = settings.get("hidden_size", int)
    activation = settings.get("hidden_act", str, "gelu")
    if kind == "dinov2":
        hidden = int(dim * settings.get("mlp_ratio", float, 4.0))
        if settings.get("use_swiglu_ffn", bool, False):
            # A gated network has three matrices instead of two: two thirds of the width, in whole eights.
            activation, hidden = "swiglu", (int(hidden * 2 / 3) + 7) // 8 * 8
    else:
        hidden = settings.get("intermediate_size", int)
    return StackConfig(
        dim=dim,
        heads=settings.get("num_attention_heads", int),
        hidden=hidden,
        layers=settings.get("num_hidden_layers", int),
        norm="pre",
        activation=activation,
        qkv_bias=settings.get("qkv_bias", bool, True),
        eps=settings.get("layer_norm_eps", float, KINDS[kind].eps),
        layer_scale=kind == "dinov2",
        dropout=settings.get("hidden_dropout_prob", float, 0.0),
    )


def tensor_names(model: ViT, prefix: str) -> dict[str, str | Rows]:
    """For every weight of the model its name in the file, where names of the encoder begin with a prefix."""
    outside = {
        "patches": "embeddings.patch_embeddings.projection",
        "positions": "embeddings.position_embeddings",
        "final_norm": "layernorm",
        "pooler": "pooler.dense",
        **{name: f"embeddings.{name}" for name in model.special},
    }
    names: dict[str, str | Rows] = {}
    for own in model.state_dict():
        module, _, rest = own.partition(".")
        if module == "stack":
            names[own] = layer_tensor(own, f"{prefix}encoder.layer", model.stack.config)
        else:
            names[own] = ".".join([prefix + outside[module], *([rest] if rest else [])])
    return names


def layer_tensor(own: str, where: str, config: StackConfig) -> str | Rows:
    """Name in the file of one weight of a stack.

    Parameters
    ----------
    own
        Its name here, ``stack.layers.N.module.weight``.
    where
        What layers are called in the file.
    config
        The stack, which tells DINOv2 from the others.
    """
    inside = _DINOV2_LAYER if config.layer_scale else _VIT_LAYER
    _, _, layer, module, *parts = own.split(".")
    if config.activation != "swiglu" or module not in ("gate", "linear1", "linear2"):
        return ".".join([where, layer, inside[module], *parts])
    if module == "linear2":
        return ".".join([where, layer, "mlp.weights_out", *parts])
    # The gate is the first half of one fused matrix.
    return Rows(".".join([where, layer, "mlp.weights_in", *parts]), int(module == "linear1"), 2)


def _images(settings: Settings) -> Images:
    """What ``preprocessor_config.json`` says, or the custom of the model type."""
    kind, channels = KINDS[settings.get("model_type", str)], settings.get("num_channels", int, 3)
    path = settings.path.parent / "preprocessor_config.json"
    stated = read_json(path) if path.is_file() else {}
    if stated.get("do_normalize") is False:
        mean, std = (0.0,) * channels, (1.0,) * channels
    else:
        # Images that are not in colour have no custom.
        custom = (kind.mean, kind.std) if channels == 3 else (0.5, 0.5)
        mean = _per_channel(stated.get("image_mean", custom[0]), channels, "image_mean", path)
        std = _per_channel(stated.get("image_std", custom[1]), channels, "image_std", path)
    if any(value <= 0 for value in std):
        raise FIMPError(f"{path}: 'image_std' is {list(std)}, wanted positive numbers; fetch the file again")
    cropped = stated.get("do_center_crop") is not False and "crop_size" in stated
    name = "crop_size" if cropped else "size"
    size = stated.get(name)
    if size is None:
        return Images(mean, std, settings.pair("image_size", 224))
    if isinstance(size, dict):
        # A shortest edge without a crop leaves the other one open; models are trained on squares.
        size = size.get("shortest_edge", [size.get("height"), size.get("width")])
    return Images(mean, std, Settings({name: size}, path).pair(name, 224))


def _per_channel(value: Any, channels: int, name: str, path: Path) -> tuple[float, ...]:
    """A number for each channel, given as such or as one for all."""
    values = [value] * channels if isinstance(value, (int, float)) else value
    if (
        not isinstance(values, (list, tuple))
        or len(values) != channels
        or any(type(number) not in (int, float) for number in values)
    ):
        raise FIMPError(f"{path}: {name!r} is {value!r}, wanted {channels} numbers; fetch the file again")
    return tuple(float(number) for number in values)


def _recognises(folder: Path) -> bool:
    return model_type(folder) in (*KINDS, *_OTHERS)


register(Family("vit", _recognises, load, "ViT, DeiT, DINOv2 and the encoder of ViT-MAE: config.json and weights"))
