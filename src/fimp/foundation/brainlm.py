"""BrainLM (github.com/vandijklab/BrainLM): a masked autoencoder of fMRI recordings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fimp.data.scaling import RobustScale
from fimp.errors import FIMPError
from fimp.foundation.base import FoundationModel, fill
from fimp.foundation.brainlm_recordings import RecordingReader
from fimp.foundation.hf import BERT_LAYER, Settings, model_type, naming, read_json, read_weights
from fimp.foundation.masking import Masked, mask_tokens, restore_tokens
from fimp.foundation.registry import Family, register
from fimp.foundation.scaling import read_scaling
from fimp.nn.stack_config import StackConfig
from fimp.nn.transformer import TransformerStack

MODEL_TYPE = "brainlm_mae"

#: Constant tables of sines and cosines, and a head inherited from ViT-MAE that upstream never calls.
_UNUSED = ("*.pos_embedding.pe", "decoder.decoder_pred.weight", "decoder.decoder_pred.bias")

#: Own names to those in the file.
_OUTSIDE = {
    "cls_token": "vit.embeddings.cls_token",
    "signal": "vit.embeddings.signal_embedding_projection",
    "xyz": "vit.embeddings.xyz_embedding_projection",
    "final_norm": "vit.layernorm",
    "decoder.mask_token": "decoder.mask_token",
    "decoder.embed": "decoder.decoder_embed",
    "decoder.xyz": "decoder.decoder_xyz_projection",
    "decoder.norm": "decoder.decoder_norm",
    "decoder.hidden": "decoder.decoder_pred1",
    "decoder.out": "decoder.decoder_pred2",
}
_STACKS = {"stack.layers": "vit.encoder.layer", "decoder.stack.layers": "decoder.decoder_layers"}


class Reconstruction(NamedTuple):
    """What the decoder makes of a masked recording.

    Attributes
    ----------
    logits
        Predicted signal, ``[B, R, P, patch]``.
    mask
        True where the encoder did not see the patch, ``[B, R, P]``.
    """

    logits: Tensor
    mask: Tensor


class BrainLMDecoder(nn.Module):
    """The decoder: all tokens back in their places, layers, and a network that predicts the signal of each patch.

    Parameters
    ----------
    dim
        Width of the encoder.
    config
        The decoder's own layers, whose epsilon the norm after them has too.
    patch
        Time points of a patch.
    tanh
        Whether predictions go through tanh.
    """

    def __init__(self, dim: int, config: StackConfig, patch: int, tanh: bool) -> None:
        super().__init__()
        width = config.dim
        self.embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.xyz = nn.Linear(3, width)
        self.stack = TransformerStack(config)
        self.norm = nn.LayerNorm(width, eps=config.eps)
        self.hidden, self.out = nn.Linear(width, width // 2), nn.Linear(width // 2, patch)
        self.tanh = tanh

    def restore(self, latent: Tensor, xyz: Tensor, ids_restore: Tensor) -> Tensor:
        """What the decoder's layers get: every token in its place, removed ones as a learned token.

        Parameters
        ----------
        latent
            Output of the encoder after its final norm, ``[B, 1 + kept, D]``.
        xyz
            ``[B, R, 3]``.
        ids_restore
            ``[B, R * P]``, of :class:`Masked`.

        Returns
        -------
        Tensor
            ``[B, 1 + R * P, D]``, CLS first.
        """
        x = self.embed(latent)
        cls, kept = x[:, :1], x[:, 1:]
        tokens = restore_tokens(kept, self.mask_token, ids_restore)
        patches = tokens.unflatten(1, (xyz.size(1), -1)) + self.xyz(xyz)[:, :, None]
        return torch.cat([cls, (patches + sin_cos(patches)).flatten(1, 2)], 1)

    def predict(self, h: Tensor, regions: int) -> Tensor:
        """Output of the last layer ``[B, 1 + R * P, D]`` to predicted signal ``[B, R, P, patch]``."""
        x = self.out(F.leaky_relu(self.hidden(self.norm(h[:, 1:])), 0.1)).unflatten(1, (regions, -1))
        return x.tanh() if self.tanh else x


class BrainLM(FoundationModel):
    """BrainLM, converted (Ortega Caro et al. 2023, bioRxiv; reference 31 of arXiv 2210.09475).

    Patches of the signal of brain regions are tokens, in the order of regions, then of time.

    Layers are post-norm with a convolution of values along the sequence; attention is exact if and only if
    ``num_landmarks`` equals ``segment_means_seq_len`` in the configuration, as it does in published checkpoints.
    The dropout of 0.1 behind upstream's position embeddings is left out.

    Parameters
    ----------
    settings
        Content of ``config.json``.

    Attributes
    ----------
    scaling
        How the signals were prepared that it was trained on, where that is known: ``scaling.prepare(signal)`` makes
        what :meth:`embed` takes. Published checkpoints do not say.

    Raises
    ------
    FIMPError
        If the configuration does not make sense.
    """

    def __init__(self, settings: Settings) -> None:
        stack = TransformerStack(_stack_config(settings, ""))
        dim = stack.config.dim
        super().__init__(
            "brainlm", settings.values, stack, settings.path.parent, nn.LayerNorm(dim, eps=stack.config.eps)
        )
        self.patch = settings.get("timepoint_patching_size", int, 49)
        if self.patch < 1:
            raise FIMPError(f"'timepoint_patching_size' is {self.patch}, wanted at least 1")
        self.mask_ratio = settings.get("mask_ratio", float, 0.5)
        self.loss_name = settings.get("loss_fn", str, "mse")
        if self.loss_name not in ("mse", "mae"):
            raise FIMPError(f"'loss_fn' is {self.loss_name!r}, wanted 'mse' or 'mae'")
        self.segment_length = settings.get("segment_means_seq_len", int, 64)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.signal, self.xyz = nn.Linear(self.patch, dim), nn.Linear(3, dim)
        decoder = _stack_config(settings, "decoder_")
        if decoder.dim != dim:
            raise FIMPError(
                f"'decoder_hidden_size' is {decoder.dim} and 'hidden_size' {dim}; upstream's decoder needs them equal"
            )
        self.decoder = BrainLMDecoder(dim, decoder, self.patch, settings.get("use_tanh_decoder", bool, False))
        self.scaling: RobustScale | None = None

    def embed(self, signal: Tensor, xyz: Tensor | None) -> Tensor:
        """Tokens of recordings in their natural order.

        Parameters
        ----------
        signal
            ``[B, R, time]``; time is a multiple of the patch length.
        xyz
            Coordinates of the regions, ``[B, R, 3]``.

        Returns
        -------
        Tensor
            ``[B, 1 + R * P, D]``: CLS, then the P patches of each region.

        Raises
        ------
        FIMPError
            If shapes do not fit, or coordinates are missing.
        """
        patches = self._patches(signal)
        if xyz is None:
            raise FIMPError("xyz: missing; BrainLM needs the coordinates of the regions, [B, R, 3]")
        if xyz.shape != (*signal.shape[:2], 3):
            raise FIMPError(
                f"xyz: shape {list(xyz.shape)}, wanted {[*signal.shape[:2], 3]}, a point per region of every recording"
            )
        x = self.signal(patches) + self.xyz(xyz)[:, :, None]
        x = (x + sin_cos(x)).flatten(1, 2)
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)

    def recording_reader(self, patches: int, length: int) -> RecordingReader:
        """What tasks on recordings ask of the model.

        Raises
        ------
        FIMPError
            If its patches do not fill the task's, or its attention needs sequences of one length.
        """
        if length % self.patch:
            raise FIMPError(
                f"--patch: {length} is no multiple of the patch length {self.patch} of {self.source}; use {self.patch}"
            )
        if self.stack.config.landmarks is not None:
            raise FIMPError(
                f"{self.source}: its Nystrom attention needs sequences of {self.segment_length} tokens without hidden "
                "ones; use a checkpoint with num_landmarks = segment_means_seq_len"
            )
        return RecordingReader(self)

    def mask_tokens(self, h: Tensor, mask_ratio: float | None = None, noise: Tensor | None = None) -> Masked:
        """Remove tokens at random, by default in the ratio of the configuration (:func:`.masking.mask_tokens`)."""
        return mask_tokens(h, self.mask_ratio if mask_ratio is None else mask_ratio, noise)

    def reconstruct(
        self, signal: Tensor, xyz: Tensor | None, mask_ratio: float | None = None, noise: Tensor | None = None
    ) -> Reconstruction:
        """Mask a recording and predict the whole of it from what is left.

        Parameters
        ----------
        signal, xyz
            As for :meth:`embed`.
        mask_ratio, noise
            As for :meth:`mask_tokens`.

        Returns
        -------
        Reconstruction
            ``logits [B, R, P, patch]`` and ``mask [B, R, P]``.

        Raises
        ------
        FIMPError
            As :meth:`embed` and :meth:`mask_tokens`; or if attention is true Nystrom attention and a sequence is not
            as long as the configuration says, where upstream cannot run either.
        """
        masked = self.mask_tokens(self.embed(signal, xyz), mask_ratio, noise)
        assert xyz is not None
        h = self._encode(self.decoder.stack, self.decoder.restore(self.latent(masked), xyz, masked.ids_restore))
        logits = self.decoder.predict(h, signal.size(1))
        return Reconstruction(logits, masked.mask.view(logits.shape[:3]))

    def latent(self, masked: Masked) -> Tensor:
        """States of the tokens that are left of a recording, after the final norm: ``[B, 1 + kept, D]``, CLS first.

        Raises
        ------
        FIMPError
            As :meth:`reconstruct`.
        """
        out: Tensor = self.final_norm(self._encode(self.stack, masked.h))
        return out

    def loss(self, signal: Tensor, reconstruction: Reconstruction) -> Tensor:
        """Error of the patches that were removed, a scalar: mean square, or absolute where the configuration says so.

        Parameters
        ----------
        signal
            ``[B, R, time]``.
        reconstruction
            What :meth:`reconstruct` made of it.

        Raises
        ------
        FIMPError
            If no patch was removed, or shapes do not fit.
        """
        logits, mask = reconstruction
        patches = self._patches(signal)
        if patches.shape != logits.shape:
            raise FIMPError(
                f"signal: gives patches {list(patches.shape)}, but the reconstruction is {list(logits.shape)}"
            )
        if not bool(mask.any()):
            raise FIMPError("mask_ratio: no patch was removed, so there is nothing to predict; raise it above 0")
        error = (logits - patches)[mask]
        return error.square().mean() if self.loss_name == "mse" else error.abs().mean()

    def _patches(self, signal: Tensor) -> Tensor:
        """``[B, R, time]`` to ``[B, R, P, patch]``."""
        if signal.dim() != 3 or signal.size(2) == 0 or signal.size(2) % self.patch:
            raise FIMPError(
                f"signal: shape {list(signal.shape)}, wanted [B, R, time] with time a multiple of the patch length "
                f"{self.patch}; cut or pad the recording"
            )
        return signal.unflatten(2, (-1, self.patch))

    def _encode(self, stack: TransformerStack, h: Tensor) -> Tensor:
        """Run a stack over whole recordings."""
        if stack.config.landmarks is not None and h.size(1) != self.segment_length:
            raise FIMPError(
                f"BrainLM: {h.size(1)} tokens with CLS, but the Nystrom attention of this checkpoint is made for "
                f"segment_means_seq_len={self.segment_length}; give recordings of that length and mask_ratio=0"
            )
        out = stack.encode(h)
        assert isinstance(out, Tensor)
        return out


def sin_cos(h: Tensor) -> Tensor:
    """Sines and cosines of positions, interleaved, base 10000 (arXiv 1706.03762), ``[T, D]`` for ``h [..., T, D]``."""
    length, dim = h.shape[-2:]
    # Always in float32, as upstream's stored table.
    angles = torch.exp(torch.arange(0, dim, 2, device=h.device) * (-math.log(10_000.0) / dim))
    angles = torch.arange(length, device=h.device)[:, None] * angles
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :dim].to(h.dtype)


def load(folder: Path) -> BrainLM:
    """Read a folder as ``save_pretrained`` of ``BrainLMForPretraining`` writes it.

    Raises
    ------
    FIMPError
        If the model type is another, files are missing or damaged, or weights and configuration do not fit.
    """
    settings = Settings(read_json(folder / "config.json"), folder / "config.json")
    if settings.get("model_type", str) != MODEL_TYPE:
        raise FIMPError(f"{settings.path}: model_type is {settings.values['model_type']!r}, wanted {MODEL_TYPE!r}")
    with naming(settings.path):
        model = BrainLM(settings)
    state, source = read_weights(folder)
    fill(model, state, tensor_names(model), source=source, known_unused=_UNUSED)
    model.scaling = read_scaling(folder)
    return model


def _stack_config(settings: Settings, part: str) -> StackConfig:
    """Layers of the encoder (``part=""``) or the decoder (``"decoder_"``)."""
    landmarks: int | None = settings.get("num_landmarks", int, 64)
    length = settings.get("segment_means_seq_len", int, 64)
    if landmarks == length:
        landmarks = None
    elif settings.get("inv_coeff_init_option", bool, False):
        raise FIMPError("'inv_coeff_init_option' is true, which upstream cannot run; wanted false")
    elif landmarks is not None and landmarks > 0 and length % landmarks:
        raise FIMPError(f"'num_landmarks' is {landmarks}, wanted a divisor of 'segment_means_seq_len' {length}")
    return StackConfig(
        dim=settings.get(f"{part}hidden_size", int),
        heads=settings.get(f"{part}num_attention_heads", int),
        hidden=settings.get(f"{part}intermediate_size", int),
        layers=settings.get(f"{part}num_hidden_layers", int),
        norm="post",
        activation=settings.get("hidden_act", str, "gelu"),
        # Upstream's layers have these biases whatever "qkv_bias" says.
        qkv_bias=True,
        eps=settings.get("layer_norm_eps", float, 1e-12),
        value_conv=_kernel(settings),
        landmarks=landmarks,
        dropout=settings.get("hidden_dropout_prob", float, 0.0),
    )


def _kernel(settings: Settings) -> int | None:
    """Kernel of the convolution of values; null, and only that, means none."""
    if "conv_kernel_size" in settings.values and settings.values["conv_kernel_size"] is None:
        return None
    return settings.get("conv_kernel_size", int, 65)


def tensor_names(model: BrainLM) -> Mapping[str, str]:
    """For every weight of the model its name in the file."""
    names = {}
    for own in model.state_dict():
        for stack, where in _STACKS.items():
            if own.startswith(f"{stack}."):
                layer, module, *rest = own.removeprefix(f"{stack}.").split(".")
                names[own] = ".".join([where, layer, BERT_LAYER[module], *rest])
                break
        else:
            module = own if own in _OUTSIDE else own.rpartition(".")[0]
            names[own] = _OUTSIDE[module] + own.removeprefix(module)
    return names


def _recognises(folder: Path) -> bool:
    return model_type(folder) == MODEL_TYPE


register(Family("brainlm", _recognises, load, "BrainLM: config.json with model_type brainlm_mae, and weights"))
