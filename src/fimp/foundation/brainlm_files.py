"""New BrainLM models, and folders of them in upstream's layout."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from fimp.errors import FIMPError
from fimp.foundation.base import unfill
from fimp.foundation.brainlm import MODEL_TYPE, BrainLM, sin_cos, tensor_names
from fimp.foundation.folders import finite, new_folder, write_json
from fimp.foundation.hf import Settings
from fimp.foundation.scaling import write_scaling
from fimp.nn.transformer_layer import TransformerLayer

#: Rows of upstream's tables of sines and cosines: the most patches of a region that it can read.
MOST_PATCHES = 5000
#: Entries of upstream's configuration that its model inherits and does not use for recordings.
_INHERITED = {"image_size": 224, "num_channels": 3, "patch_size": 16, "norm_pix_loss": False}
#: Standard deviation of new weights that are no linear maps.
_STD = 0.02
#: Factors on Glorot's queries and keys, and on torch's feed-forward branches; see :func:`_initialise`.
_CONTRAST, _FEED_FORWARD = 2.0, 0.1


def new_brainlm(
    regions: int,
    window: int,
    *,
    patch: int = 20,
    mask_ratio: float = 0.75,
    dim: int = 64,
    layers: int = 4,
    heads: int = 4,
    hidden: int = 128,
    decoder_layers: int = 2,
    dropout: float = 0.0,
) -> BrainLM:
    """An untrained model with exact attention.

    Parameters
    ----------
    regions, window
        Regions and time points of the recordings that it is for; they are written down, and other ones can be read.
    patch
        Time points of a token, a divisor of ``window``.
    mask_ratio
        Share of tokens that are removed, written down as the model's own.
    dim, layers, heads, hidden, dropout
        Width D, layers of the encoder, attention heads, width of the feed-forward networks, dropout.
    decoder_layers
        Layers of the decoder, which has the encoder's other sizes.

    Raises
    ------
    FIMPError
        If sizes do not fit together.
    """
    if patch < 1 or window < patch or window % patch or window // patch > MOST_PATCHES:
        raise FIMPError(
            f"new_brainlm: window={window} and patch={patch}, wanted a window of 1 to {MOST_PATCHES} whole patches; "
            "use 160 and 20, for instance"
        )
    if not 0.0 <= mask_ratio < 1.0:
        raise FIMPError(f"new_brainlm: mask_ratio={mask_ratio} is outside [0, 1); use 0.75, for instance")
    sizes = {"num_attention_heads": heads, "hidden_size": dim, "intermediate_size": hidden}
    config = {
        "architectures": ["BrainLMForPretraining"],
        "model_type": MODEL_TYPE,
        **sizes,
        "num_hidden_layers": layers,
        **{f"decoder_{name}": value for name, value in sizes.items()},
        "decoder_num_hidden_layers": decoder_layers,
        "attention_probs_dropout_prob": 0.0,
        "conv_kernel_size": 65,
        "hidden_act": "gelu",
        "hidden_dropout_prob": dropout,
        "initializer_range": _STD,
        "inv_coeff_init_option": False,
        "layer_norm_eps": 1e-12,
        "loss_fn": "mse",
        "mask_ratio": mask_ratio,
        "num_brain_voxels": regions,
        # Upstream's attention is exact if and only if these two are equal, whatever they are.
        "num_landmarks": 64,
        "segment_means_seq_len": 64,
        "num_timepoints_per_voxel": window,
        "qkv_bias": True,
        "timepoint_patching_size": patch,
        "torch_dtype": "float32",
        "transformers_version": "4.28.0",
        "use_tanh_decoder": False,
        **_INHERITED,
    }
    model = BrainLM(Settings(config, Path("new BrainLM") / "config.json"))
    _initialise(model)
    return model


@torch.no_grad()
def _initialise(model: BrainLM) -> None:
    """Weights from which few recordings are enough to begin learning.

    From unrelated weights attention is flat, every token hears the mean of all, and training stays where it predicts
    zero. Queries and keys that are alike make tokens of one time or place hear each other from the start, and outputs
    that transpose values hand on what they hear (after arXiv 2305.09828); small feed-forward branches let it through.
    """
    for parameter in (model.cls_token, model.decoder.mask_token, model.decoder.out.weight):
        nn.init.normal_(parameter, std=_STD)
    nn.init.zeros_(model.decoder.out.bias)
    for layer in (*model.stack.layers, *model.decoder.stack.layers):
        assert isinstance(layer, TransformerLayer)
        assert layer.value_conv is not None
        # A filter over 65 tokens with torch's defaults would drown what attention says.
        nn.init.normal_(layer.value_conv.weight, std=_STD)
        layer.q_proj.weight.mul_(_CONTRAST)
        layer.k_proj.weight.copy_(layer.q_proj.weight)
        layer.out_proj.weight.copy_(layer.v_proj.weight.T)
        layer.linear2.weight.mul_(_FEED_FORWARD)


def save_brainlm(model: BrainLM, folder: Path) -> None:
    """Write ``config.json``, ``pytorch_model.bin`` and, if it has one, the model's ``scaling.json``: all or nothing.

    Raises
    ------
    FIMPError
        If the folder exists or cannot be written, or weights are NaN or infinite.
    """
    weights = finite(unfill(model, tensor_names(model)) | _unused(model), folder)
    with new_folder(folder) as temporary:
        write_json(temporary / "config.json", model.config)
        torch.save(weights, temporary / "pytorch_model.bin")
        if model.scaling is not None:
            write_scaling(temporary, model.scaling)


def _unused(model: BrainLM) -> dict[str, Tensor]:
    """What upstream's model expects in the file without learning or without using it."""
    dim = model.stack.config.dim
    values = Settings(model.config, model.source / "config.json")
    size, channels = (values.get(name, int, _INHERITED[name]) for name in ("patch_size", "num_channels"))
    table = sin_cos(torch.zeros(MOST_PATCHES, dim))
    return {
        "vit.embeddings.pos_embedding.pe": table,
        "decoder.pos_embedding.pe": table,
        "decoder.decoder_pred.weight": torch.zeros(size**2 * channels, dim),
        "decoder.decoder_pred.bias": torch.zeros(size**2 * channels),
    }
