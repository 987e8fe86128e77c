"""New scGPT models, and folders of them in upstream's layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fimp.errors import FIMPError
from fimp.foundation.base import unfill
from fimp.foundation.folders import finite, new_folder, write_json
from fimp.foundation.hf import Settings
from fimp.foundation.scgpt import SPECIAL_TOKENS, ScGPT, tensor_names


def new_scgpt(
    genes: Sequence[str],
    *,
    dim: int = 64,
    layers: int = 4,
    heads: int = 4,
    hidden: int = 128,
    dropout: float = 0.0,
) -> ScGPT:
    """An untrained model for some genes, which takes values as they are (``input_style`` ``log1p``).

    Parameters
    ----------
    genes
        The vocabulary, without special tokens.
    dim, layers, heads, hidden, dropout
        Width D, layers, attention heads, width of the feed-forward networks, dropout.

    Raises
    ------
    FIMPError
        If a gene is named twice or like a special token, or sizes do not fit together.
    """
    vocabulary = {gene: index for index, gene in enumerate([*genes, *SPECIAL_TOKENS])}
    if len(vocabulary) < len(genes) + len(SPECIAL_TOKENS):
        raise FIMPError(
            "new_scgpt: genes are named twice, or like <pad>, <cls> or <eoc>; give each gene a name of its own"
        )
    arguments = {
        "input_style": "log1p",
        "input_emb_style": "continuous",
        "n_bins": 51,
        "embsize": dim,
        "nheads": heads,
        "d_hid": hidden,
        "nlayers": layers,
        "n_layers_cls": 3,
        "dropout": dropout,
        "pad_token": "<pad>",
        "pad_value": -2,
        "mask_value": -1,
    }
    # Upstream's model has both of these heads, used or not, and expects them in the file.
    return ScGPT(Settings(arguments, Path("args.json")), vocabulary, Path("new scGPT"), classes=1, mvc=True)


def save_scgpt(model: ScGPT, folder: Path) -> None:
    """Write ``args.json``, ``vocab.json`` and ``best_model.pt``: a whole folder or nothing.

    Raises
    ------
    FIMPError
        If the folder exists or cannot be written, or weights are NaN or infinite.
    """
    weights = finite(unfill(model, tensor_names(model)), folder)
    with new_folder(folder) as temporary:
        write_json(temporary / "args.json", model.config)
        write_json(temporary / "vocab.json", model.vocabulary)
        torch.save(weights, temporary / "best_model.pt")
