"""Geneformer (Theodoris et al. 2023, doi 10.1038/s41586-023-06139-9) and other ``BertForMaskedLM`` folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fimp.errors import FIMPError
from fimp.foundation.base import FoundationModel, fill
from fimp.foundation.cells import CellReader
from fimp.foundation.geneformer_cells import GeneformerReader
from fimp.foundation.hf import BERT_LAYER, Settings, model_type, naming, read_json, read_weights
from fimp.foundation.pickles import read_pickle
from fimp.foundation.registry import Family, register
from fimp.foundation.vocabulary import GeneMatch, check_ids, match_vocabulary
from fimp.nn.stack_config import ACTIVATIONS, StackConfig
from fimp.nn.transformer import TransformerStack

#: Total to which upstream scales the counts of a cell before it divides them by medians.
TARGET_SUM = 10_000.0

#: Tokens at the ends of a cell in the second release.
ENDS = ("<cls>", "<eos>")

#: Stored by older releases of the transformers library, or parts that a masked-language model does not use.
_KNOWN_UNUSED = ("*embeddings.position_ids", "*pooler.dense.*", "cls.seq_relationship.*")


class Geneformer(FoundationModel):
    """A BERT whose tokens are genes in the order of their rank (doi 10.1038/s41586-023-06139-9).

    Parameters
    ----------
    settings
        Content of ``config.json``.
    head
        Whether there is a masked-language head.

    Attributes
    ----------
    vocabulary
        Gene (Ensembl id) or special token to token; None where no dictionary was read.
    medians
        Gene to its median over the pretraining data; None where none were read.
    pad_id
        Token of padding.
    """

    def __init__(self, settings: Settings, head: bool = True) -> None:
        _check(settings)
        config = StackConfig(
            dim=settings.get("hidden_size", int),
            heads=settings.get("num_attention_heads", int),
            hidden=settings.get("intermediate_size", int),
            layers=settings.get("num_hidden_layers", int),
            activation=settings.get("hidden_act", str, "gelu"),
            eps=settings.get("layer_norm_eps", float, 1e-12),
            dropout=settings.get("hidden_dropout_prob", float, 0.1),
        )
        super().__init__("geneformer", settings.values, TransformerStack(config), settings.path.parent)
        dim, size = config.dim, settings.get("vocab_size", int)
        self.vocabulary: dict[str, int] | None = None
        self.medians: dict[str, float] | None = None
        self.pad_id = settings.get("pad_token_id", int, 0)
        self.word_embedding = nn.Embedding(size, dim)
        self.position_embedding = nn.Embedding(settings.get("max_position_embeddings", int), dim)
        self.type_embedding = nn.Embedding(settings.get("type_vocab_size", int, 2), dim)
        self.embedding_norm, self.dropout = nn.LayerNorm(dim, eps=config.eps), nn.Dropout(config.dropout)
        self.tied = settings.get("tie_word_embeddings", bool, True)
        self.transform = nn.Linear(dim, dim) if head else None
        self.transform_norm = nn.LayerNorm(dim, eps=config.eps) if head else None
        self.output = nn.Linear(dim, size, bias=False) if head and not self.tied else None
        self.output_bias = nn.Parameter(torch.zeros(size)) if head else None

    @property
    def gene_table(self) -> Tensor:
        """Embeddings of genes and special tokens."""
        return self.word_embedding.weight

    def reader(self, genes: Sequence[str], gene_mean: Tensor, gene_deviation: Tensor) -> CellReader:
        """Cells by rank, where the folder has a token dictionary and medians (:class:`.GeneformerReader`).

        Without them, embeddings of genes and values are learned with the task.
        """
        if self.vocabulary is None or self.medians is None:
            reader = super().reader(genes, gene_mean, gene_deviation)
            reader.notes = ("genes: the folder has no token dictionary, so embeddings of genes are learned anew",)
            return reader
        match = self.match(genes)
        names = {token: name for name, token in self.vocabulary.items()}
        medians = torch.tensor([self.medians.get(names.get(int(token), ""), 0.0) for token in match.ids])
        ids, table = torch.from_numpy(match.ids), self.word_embedding.weight.detach()
        words = table[ids.clamp(min=0)]
        words[ids < 0] = table[ids[ids >= 0]].mean(0)
        both = all(name in self.vocabulary for name in ENDS)
        ends = table[[self.vocabulary[name] for name in ENDS]] if both else table[:0]
        out = GeneformerReader(
            words,
            ends,
            self.position_embedding.weight.detach(),
            self.type_embedding.weight[0].detach(),
            self.embedding_norm,
            self.dropout,
            (ids >= 0) & (medians > 0),
            medians,
            gene_mean,
            gene_deviation,
        )
        out.notes = (match.report,)
        return out

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens."""
        return self.word_embedding.num_embeddings

    @property
    def max_tokens(self) -> int:
        """Longest sequence that the model has positions for."""
        return self.position_embedding.num_embeddings

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Token states that the stack takes: tokens, positions and types, after their norm.

        Parameters
        ----------
        input_ids
            ``[N, T]``, in the order of rank.
        token_type_ids
            ``[N, T]``, zeros by default.

        Returns
        -------
        Tensor
            ``[N, T, D]``.

        Raises
        ------
        FIMPError
            If a token is not in the vocabulary, or there are more than the model has positions for.
        """
        if input_ids.dim() != 2 or input_ids.size(1) > self.max_tokens:
            raise FIMPError(
                f"Geneformer.embed: input_ids has shape {list(input_ids.shape)}, wanted [N, T] with T at most "
                f"{self.max_tokens}; leave out the lowest ranks"
            )
        check_ids(input_ids, self.vocabulary_size, "Geneformer.embed: input_ids")
        if token_type_ids is None:
            kind = self.type_embedding.weight[0]
        else:
            check_ids(token_type_ids, self.type_embedding.num_embeddings, "Geneformer.embed: token_type_ids")
            kind = self.type_embedding(token_type_ids)
        position = self.position_embedding.weight[: input_ids.size(1)]
        return self.dropout(self.embedding_norm(self.word_embedding(input_ids) + kind + position))

    def token_mask(self, input_ids: Tensor) -> Tensor:
        """Which tokens are real: ``[N, T]``, False at padding."""
        return input_ids != self.pad_id

    def token_head(self, h: Tensor) -> Tensor:
        """Scores of all tokens at each place, ``[N, T, D]`` to ``[N, T, V]`` (masked-language head).

        Raises
        ------
        FIMPError
            If the checkpoint has no such head.
        """
        if self.transform is None or self.transform_norm is None:
            raise FIMPError(f"{self.source}: the checkpoint has no cls.predictions; use one of a BertForMaskedLM")
        activation = ACTIVATIONS[self.stack.config.activation]
        weight = self.word_embedding.weight if self.output is None else self.output.weight
        return nn.functional.linear(self.transform_norm(activation(self.transform(h))), weight, self.output_bias)

    def match(self, genes: Sequence[str], mapping: Mapping[str, str] | None = None, *, name: str = "data") -> GeneMatch:
        """Tokens of genes; see :func:`fimp.foundation.vocabulary.match_vocabulary`.

        Raises
        ------
        FIMPError
            If no gene is found, or no token dictionary was read.
        """
        return match_vocabulary(genes, self._dictionaries()[0], mapping or self.gene_mapping, name=name)

    def read_dictionaries(self, tokens: str | Path, medians: str | Path) -> None:
        """Read the token dictionary and the gene medians, ``.json`` or as published, ``.pkl``.

        Raises
        ------
        FIMPError
            If a file cannot be read, holds anything but names and numbers, or does not fit the model.
        """
        vocabulary = {}
        for name, token in read_numbers(Path(tokens)).items():
            if not token.is_integer():
                raise FIMPError(f"{tokens}: the token of {name!r} is {token}, wanted a whole number; fetch it again")
            vocabulary[name] = int(token)
        largest = max(vocabulary.values(), default=-1)
        if largest < 0 or largest >= self.vocabulary_size or min(vocabulary.values()) < 0:
            raise FIMPError(
                f"{tokens}: {len(vocabulary):,} names have tokens up to {largest}, but the model embeds "
                f"{self.vocabulary_size:,}; give the token dictionary of this checkpoint"
            )
        found = read_numbers(Path(medians))
        for gene, median in found.items():
            if not 0.0 < median < float("inf"):
                raise FIMPError(f"{medians}: the median of {gene!r} is {median}, wanted above 0; fetch the file again")
        if not found.keys() & vocabulary.keys():
            raise FIMPError(f"{medians}: no gene of it is in {tokens}; give two files of one release")
        self.vocabulary, self.medians = vocabulary, found

    def tokenize(
        self, counts: ArrayLike, genes: Sequence[str], *, total: ArrayLike | None = None, max_tokens: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Cells as sequences of their genes, from the highest rank (rank-value encoding).

        Counts are scaled to a total of 10,000 and divided by the genes' medians; what is above zero is sorted. Genes
        without a token or without a median are left out; of equal values the earlier gene comes first. Where the
        dictionary has ``<cls>`` and ``<eos>``, as that of the second release, they stand at the ends.

        Parameters
        ----------
        counts
            Raw counts, ``[N, G]``.
        genes
            Names of the genes as in the token dictionary, G of them.
        total
            Total counts of the cells ``[N]``, where ``counts`` does not have all genes; its sums by default.
        max_tokens
            Longest sequence; as many as the model has positions for by default. The lowest ranks are left out.

        Returns
        -------
        tuple of Tensor
            Tokens ``[N, T]`` and mask ``[N, T]``, True = real token.

        Raises
        ------
        FIMPError
            If no dictionaries were read, shapes do not fit, counts are negative, infinite or missing, or no gene has
            both a token and a median.
        """
        vocabulary, medians = self._dictionaries()
        matrix = np.asarray(counts, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != len(genes):
            raise FIMPError(
                f"Geneformer.tokenize: counts has shape {list(matrix.shape)}, wanted [N, {len(genes)}]: "
                "a column per gene"
            )
        if not np.isfinite(matrix).all() or (matrix < 0).any():
            raise FIMPError("Geneformer.tokenize: counts has negative, infinite or missing entries, wanted raw counts")
        sums = matrix.sum(1) if total is None else np.asarray(total, dtype=np.float64)
        if sums.shape != matrix.shape[:1]:
            raise FIMPError(f"Geneformer.tokenize: total has shape {list(sums.shape)}, wanted [{len(matrix)}]")
        known = [index for index, gene in enumerate(genes) if gene in vocabulary and gene in medians]
        if not known:
            raise FIMPError(
                f"Geneformer.tokenize: none of the {len(genes):,} genes has a token and a median (first: "
                f"{', '.join(genes[:3])}); name them as the token dictionary does, by Ensembl id"
            )
        tokens = np.array([vocabulary[genes[index]] for index in known])
        scaled = matrix[:, known] * TARGET_SUM / np.where(sums > 0, sums, 1.0)[:, None]
        scaled /= np.array([medians[genes[index]] for index in known])
        ends = [vocabulary[name] for name in ENDS if name in vocabulary]
        first, last = (ends[:1], ends[1:]) if len(ends) == 2 else ([], [])
        most = min(max_tokens or self.max_tokens, self.max_tokens) - len(first) - len(last)
        ranks = [tokens[np.argsort(-row, kind="stable")[: min(int((row > 0).sum()), max(most, 0))]] for row in scaled]
        rows = [torch.tensor([*first, *row.tolist(), *last], dtype=torch.long) for row in ranks]
        if not rows:
            return torch.zeros(0, 0, dtype=torch.long), torch.zeros(0, 0, dtype=torch.bool)
        input_ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad_id)
        lengths = torch.tensor([len(row) for row in rows])
        return input_ids, torch.arange(input_ids.size(1)) < lengths[:, None]

    def _dictionaries(self) -> tuple[dict[str, int], dict[str, float]]:
        if self.vocabulary is None or self.medians is None:
            raise FIMPError(
                f"{self.source}: has no token_dictionary and gene_median files; give their paths to read_dictionaries"
            )
        return self.vocabulary, self.medians


def read_numbers(path: Path) -> dict[str, float]:
    """Read a map from names to numbers.

    Parameters
    ----------
    path
        ``.json``, or a pickle with nothing else in it, which is read without running code.

    Raises
    ------
    FIMPError
        If the file cannot be read or holds anything else.
    """
    if path.suffix not in (".json", ".pkl", ".pickle"):
        raise FIMPError(f"{path}: a dictionary of genes ends in .json, .pkl or .pickle; convert it")
    content: Any = read_json(path) if path.suffix == ".json" else read_pickle(path)
    if not isinstance(content, dict):
        raise FIMPError(f"{path}: holds a {type(content).__name__}, wanted a map from genes to numbers")
    for name, number in content.items():
        if not isinstance(name, str) or isinstance(number, bool) or not isinstance(number, (int, float, np.number)):
            raise FIMPError(
                f"{path}: entry {name!r} is {str(number)[:40]!r}, wanted names with numbers; fetch it again"
            )
    return {name: float(number) for name, number in content.items()}


def _check(settings: Settings) -> None:
    """What a configuration may not ask for."""
    wanted: list[tuple[str, Any, Any]] = [
        ("position_embedding_type", settings.get("position_embedding_type", str, "absolute"), "absolute"),
        ("is_decoder", settings.get("is_decoder", bool, False), False),
        ("add_cross_attention", settings.get("add_cross_attention", bool, False), False),
    ]
    for name, found, supported in wanted:
        if found != supported:
            raise FIMPError(f"{settings.path}: {name} is {found!r}, wanted {supported!r}; fimp reads encoders alone")


def _recognises(folder: Path) -> bool:
    return model_type(folder) == "bert"


def _load(folder: Path) -> Geneformer:
    settings = Settings(read_json(folder / "config.json"), folder / "config.json")
    state, path = read_weights(folder)
    # A BertModel saved by itself has no prefix.
    prefix = "bert." if any(key.startswith("bert.") for key in state) else ""
    with naming(settings.path):
        model = Geneformer(settings, head=any(key.startswith("cls.predictions.") for key in state))
    names = _names(model, prefix)
    unused = list(_KNOWN_UNUSED)
    if model.tied:
        # What is tied may be stored a second time.
        first, bias = state.get(f"{prefix}embeddings.word_embeddings.weight"), state.get("cls.predictions.bias")
        for key, same in (("cls.predictions.decoder.weight", first), ("cls.predictions.decoder.bias", bias)):
            if key in state and same is not None and not torch.equal(state[key], same):
                raise FIMPError(
                    f"{path}: key {key!r} differs from what config.json says it is tied to; "
                    "set tie_word_embeddings to false there if the model was trained so"
                )
            unused.append(key)
    elif "cls.predictions.decoder.bias" in state:
        names["output_bias"] = "cls.predictions.decoder.bias"
        unused.append("cls.predictions.bias")
    fill(model, state, names, source=path, known_unused=unused)
    found = [_dictionary(folder, pattern) for pattern in ("token_dictionary*", "gene_median*")]
    if found[0] is not None and found[1] is not None:
        model.read_dictionaries(found[0], found[1])
    return model


def _dictionary(folder: Path, pattern: str) -> Path | None:
    """The only file of a folder, its ``.json`` where it comes in both formats, that a pattern fits."""
    found = sorted(path for path in folder.glob(pattern) if path.suffix in (".json", ".pkl", ".pickle"))
    found = [path for path in found if path.suffix == ".json" or path.with_suffix(".json") not in found]
    if len(found) > 1:
        raise FIMPError(f"{folder}: has {found[0].name} and {found[1].name}; keep the one of this checkpoint")
    return found[0] if found else None


def _names(model: Geneformer, prefix: str) -> dict[str, str]:
    """Where in the file every tensor of the model is."""
    direct = {
        "word_embedding": f"{prefix}embeddings.word_embeddings",
        "position_embedding": f"{prefix}embeddings.position_embeddings",
        "type_embedding": f"{prefix}embeddings.token_type_embeddings",
        "embedding_norm": f"{prefix}embeddings.LayerNorm",
        "transform": "cls.predictions.transform.dense",
        "transform_norm": "cls.predictions.transform.LayerNorm",
        "output": "cls.predictions.decoder",
    }
    names = {}
    for key in model.state_dict():
        if key == "output_bias":
            names[key] = "cls.predictions.bias"
        elif key.startswith("stack.layers."):
            _, _, number, part, kind = key.split(".")
            names[key] = f"{prefix}encoder.layer.{number}.{BERT_LAYER[part]}.{kind}"
        else:
            part, kind = key.split(".")
            names[key] = f"{direct[part]}.{kind}"
    return names


register(Family("geneformer", _recognises, _load, "Geneformer and other BertForMaskedLM: config.json and weights"))
