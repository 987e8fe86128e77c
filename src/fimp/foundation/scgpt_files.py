"""New scGPT models, and folders of them in upstream's layout."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from fimp.errors import FIMPError
from fimp.foundation.base import unfill
from fimp.foundation.hf import Settings
from fimp.foundation.scgpt import SPECIAL_TOKENS, ScGPT, tensor_names


def new_scgpt(
    genes: Sequence[str],
    *,
    dim: int = 64,
    layers: int = 4,
    heads: int = 4,
    hidden: int = 128,
    dropout: float = 0.1,
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
        If the folder exists or cannot be written.
    """
    if folder.exists():
        raise FIMPError(f"{folder}: exists; name a new folder or remove it")
    weights = unfill(model, tensor_names(model))
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise FIMPError(f"{folder}: not written, since weights are NaN or infinite; train with a smaller learning rate")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        (temporary / "args.json").write_text(json.dumps(model.config, indent=2) + "\n")
        (temporary / "vocab.json").write_text(json.dumps(model.vocabulary, indent=2) + "\n")
        torch.save(weights, temporary / "best_model.pt")
        os.replace(temporary, folder)
    except OSError as error:
        raise FIMPError(f"{folder}: cannot be written ({error.strerror}); name another place") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
