"""Folders of scGPT in upstream's layout, ``args.json``, ``vocab.json`` and ``best_model.pt``: read, new and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fimp.errors import FIMPError
from fimp.foundation.base import Rows, fill, unfill
from fimp.foundation.folders import finite, new_folder, write_json
from fimp.foundation.hf import Settings, naming, read_json, read_tensors
from fimp.foundation.registry import Family, register
from fimp.foundation.scgpt import ScGPT

#: Appended to a vocabulary that lacks them, in this order, as upstream does.
SPECIAL_TOKENS = ("<pad>", "<cls>", "<eoc>")

#: Stored in published checkpoints, used by no part of the model.
_KNOWN_UNUSED = ("flag_encoder.weight",)

#: Where the fused projection to query, key and value is, in the three layouts: torch, flash attention, newest wrapper.
_FUSED = ("self_attn.in_proj_", "self_attn.Wqkv.", "self_attn._impl.Wqkv.")


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


def _recognises(folder: Path) -> bool:
    return (folder / "best_model.pt").is_file() or all(
        (folder / name).is_file() for name in ("args.json", "vocab.json")
    )


def _load(folder: Path) -> ScGPT:
    settings = Settings(read_json(folder / "args.json"), folder / "args.json")
    style = settings.get("input_emb_style", str, "continuous")
    if style != "continuous":
        raise FIMPError(f"{settings.path}: input_emb_style is {style!r}, wanted 'continuous'; fimp reads no other yet")
    path = folder / "best_model.pt"
    state = read_tensors(path)
    if state and all(key.startswith("module.") for key in state):
        # As parallel training writes them.
        state = {key.removeprefix("module."): value for key, value in state.items()}
    embedding = state.get("encoder.embedding.weight")
    rows = len(embedding) if embedding is not None and embedding.dim() else None
    vocabulary = read_vocabulary(folder / "vocab.json", settings.get("pad_token", str), rows, path)
    classes = None
    if _has(state, "cls_decoder."):
        output = state.get("cls_decoder.out_layer.bias")
        classes = 1 if output is None else output.numel()
    with naming(settings.path):
        model = ScGPT(settings, vocabulary, folder, classes=classes, mvc=_has(state, "mvc_decoder."))
    fill(model, state, tensor_names(model, state), source=path, known_unused=_KNOWN_UNUSED)
    return model


def _has(state: Mapping[str, Tensor], part: str) -> bool:
    return any(part in key for key in state)


def tensor_names(model: ScGPT, state: Mapping[str, Tensor] | None = None) -> dict[str, str | Rows]:
    """Where in the file every tensor of the model is.

    Parameters
    ----------
    model
        The model.
    state
        Tensors of the file, which tell its layout; torch's own where there is no file.
    """
    state = {} if state is None else state
    direct = {
        "gene_embedding": "encoder.embedding",
        "gene_norm": "encoder.enc_norm",
        "value_linear1": "value_encoder.linear1",
        "value_linear2": "value_encoder.linear2",
        "value_norm": "value_encoder.norm",
        "decoder": "decoder.fc",
        "mvc_query": "mvc_decoder.gene2query",
        "mvc_weight": "mvc_decoder.W",
    }
    if model.classifier is not None:
        last = len(model.classifier) - 1
        direct |= {f"classifier.{index}": f"cls_decoder._decoder.{index}" for index in range(last)}
        direct[f"classifier.{last}"] = "cls_decoder.out_layer"
    # One layout for the whole file: a mixture is an error that names the first key of the other one.
    fused = next((name for name in _FUSED if _has(state, f".{name}")), _FUSED[0])
    output = "self_attn._impl.out_proj" if _has(state, "self_attn._impl.out_proj.") else "self_attn.out_proj"
    names: dict[str, str | Rows] = {}
    for key in model.state_dict():
        if key.startswith("stack.layers."):
            _, _, number, part, kind = key.split(".")
            layer = f"transformer_encoder.layers.{number}."
            if part in ("q_proj", "k_proj", "v_proj"):
                names[key] = Rows(f"{layer}{fused}{kind}", "qkv".index(part[0]))
            else:
                names[key] = f"{layer}{output if part == 'out_proj' else part}.{kind}"
        else:
            prefix = max((name for name in direct if key.startswith(f"{name}.")), key=len)
            names[key] = direct[prefix] + key.removeprefix(prefix)
    return names


def read_vocabulary(path: Path, pad_token: str, size: int | None, weights: Path) -> dict[str, int]:
    """Read ``vocab.json``, with missing special tokens appended as far as there are embeddings of them.

    Parameters
    ----------
    path
        The file.
    pad_token
        Name of the padding token.
    size
        Number of gene embeddings in the weights; None leaves that unchecked.
    weights
        The file with the weights, for messages.

    Raises
    ------
    FIMPError
        If it is not a map from names to the numbers 0 to n - 1, or n is not the number of embeddings.
    """
    vocabulary = read_json(path)
    for name, token in vocabulary.items():
        if type(token) is not int:
            raise FIMPError(f"{path}: gene {name!r} has token {token!r}, wanted a whole number; fetch the file again")
    count = len(vocabulary)
    if sorted(vocabulary.values()) != list(range(count)):
        raise FIMPError(
            f"{path}: {count:,} names have tokens {min(vocabulary.values(), default=0)}.."
            f"{max(vocabulary.values(), default=0)}, wanted each of 0..{count - 1} once; fetch the file again"
        )
    needed = dict.fromkeys((pad_token, *SPECIAL_TOKENS))
    for token in needed:
        if token not in vocabulary and (size is None or len(vocabulary) < size):
            vocabulary[token] = len(vocabulary)
    if size is not None and len(vocabulary) != size:
        raise FIMPError(
            f"{path}: has {count:,} names, but {weights.name} has embeddings of {size:,}; "
            "the vocabulary belongs to another checkpoint: fetch both from one place"
        )
    for token in (pad_token, "<cls>"):
        if token not in vocabulary:
            raise FIMPError(f"{path}: has no {token}, and {weights.name} no embedding of it; fetch both from one place")
    return vocabulary


register(Family("scgpt", _recognises, _load, "scGPT: args.json, vocab.json and best_model.pt"))
