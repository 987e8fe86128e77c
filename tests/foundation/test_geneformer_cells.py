import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fimp
from fimp.data.masking import CellTokens
from fimp.foundation.geneformer import Geneformer
from fimp.foundation.hf import Settings

GENES = [f"ENSG{number}" for number in range(12)]
#: Quotients of counts by these are never equal, so that rounding decides nothing.
MEDIANS = {gene: (index + 2.5) ** 0.37 for index, gene in enumerate(GENES)}
UNKNOWN = "ENSG99"


def new(tmp_path, ends=False, positions=32):
    torch.manual_seed(0)
    config = {
        "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12, "num_hidden_layers": 2,
        "vocab_size": 20, "max_position_embeddings": positions, "hidden_act": "relu",
    }  # fmt: skip
    model = Geneformer(Settings(config, tmp_path / "config.json")).eval()
    for embedding in (model.word_embedding, model.position_embedding, model.type_embedding):
        torch.nn.init.normal_(embedding.weight)
    special = ["<pad>", "<mask>", *(["<cls>", "<eos>"] if ends else [])]
    model.vocabulary = {name: token for token, name in enumerate([*special, *GENES])}
    model.medians = dict(MEDIANS)
    return model


def reader_of(model, genes):
    return model.reader(genes, torch.full((len(genes),), 0.7), torch.full((len(genes),), 0.4)).eval()


def cells(values, shown=None, seed=0):
    """Log1p of scaled counts ``[N, G]`` as tokens in a random order."""
    values = torch.as_tensor(values, dtype=torch.float32)
    shown = values > 0 if shown is None else shown
    order = torch.rand(values.shape, generator=torch.Generator().manual_seed(seed)).argsort(1)
    genes = torch.arange(values.size(1)).expand_as(values).gather(1, order)
    picked, mask = values.gather(1, order), shown.gather(1, order)
    return CellTokens(
        genes,
        picked,
        torch.where(mask, picked, 0.0),
        mask,
        torch.zeros_like(mask),
        torch.full((len(genes),), torch.nan),
    )


def sorted_rows(h, mask):
    return [row[keep][row[keep][:, 0].argsort()] for row, keep in zip(h, mask, strict=True)]


@pytest.mark.parametrize("ends", [False, True])
@given(seed=st.integers(0, 2**20))
@settings(max_examples=20, deadline=None)
def test_a_cell_that_shows_everything_is_what_the_model_itself_reads(tmp_path_factory, ends, seed):
    model = new(tmp_path_factory.getbasetemp(), ends)
    genes = [*GENES, UNKNOWN]
    generator = np.random.default_rng(seed)
    counts = generator.poisson(generator.gamma(1.0, 2.0, (5, len(genes))))
    counts[0] = 0
    scale = 50.0 / np.maximum(counts.sum(1), 1)
    tokens, mask = model.tokenize(counts, genes)
    with torch.no_grad():
        plain = model.stack.encode(model.embed(tokens), mask)
        sources = reader_of(model, genes).sources(cells(np.log1p(counts * scale[:, None]), seed=seed % 7))
        ours = model.stack.encode(sources.h, sources.mask)
    for one, other in zip(sorted_rows(ours, sources.mask), sorted_rows(plain, mask), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_ranks_are_those_among_what_is_shown(tmp_path):
    reader = reader_of(new(tmp_path), GENES)
    values = torch.full((1, 12), 1.0)
    values[0, 3] = 9.0
    shown = torch.ones(1, 12, dtype=torch.bool)
    whole = reader.sources(cells(values, shown)).h
    shown[0, 3] = False
    without = reader.sources(cells(values, shown))
    values[0, 3] = 1.0
    assert torch.equal(reader.sources(cells(values, shown)).h[without.mask], without.h[without.mask])
    assert not torch.allclose(whole[without.mask], without.h[without.mask])


def test_more_genes_than_positions_leave_out_the_lowest(tmp_path):
    for ends, places in ((False, 5), (True, 7)):
        reader = reader_of(new(tmp_path, ends, places), GENES)
        tokens = cells(torch.linspace(0.5, 3.0, 12)[None])
        assert int(reader.sources(tokens).mask.sum()) == places
        assert reader.sources(tokens).h.isfinite().all()


def test_huge_values_keep_their_order(tmp_path):
    reader = reader_of(new(tmp_path), GENES)
    tokens = cells(torch.arange(1, 13)[None] * 1e4)
    rank = reader._ranks(tokens.genes, tokens.values, tokens.mask)
    assert torch.equal(rank.gather(1, tokens.genes.argsort(1)), torch.arange(11, -1, -1)[None])


def test_what_is_asked_does_not_depend_on_its_value(tmp_path):
    reader = reader_of(new(tmp_path), [*GENES, UNKNOWN])
    one, other = (cells(torch.rand(2, 13) + 0.1) for _ in range(2))
    assert torch.equal(reader.queries(one), reader.queries(other))
    assert reader.queries(one).isfinite().all()


def test_values_can_be_learned_besides_ranks(tmp_path):
    reader = reader_of(new(tmp_path), GENES)
    tokens = cells(torch.rand(2, 12) + 0.1)
    reader.sources(tokens).h.sum().backward()
    assert reader.value.grad.abs().sum() > 0
    reader.freeze()
    assert {name for name, parameter in reader.named_parameters() if parameter.requires_grad} == {"asked", "value"}


def test_without_dictionaries_genes_are_learned_anew(tmp_path):
    model = new(tmp_path)
    model.vocabulary = model.medians = None
    reader = reader_of(model, GENES)
    assert "learned anew" in reader.notes[0]
    reader.freeze()
    assert reader.tokenizer.gene.weight.requires_grad


def test_genes_that_the_model_lacks_are_said(tmp_path):
    assert "knows 12 of 13" in reader_of(new(tmp_path), [*GENES, UNKNOWN]).notes[0]
    with pytest.raises(fimp.FIMPError, match="none of the 1 genes"):
        reader_of(new(tmp_path), [UNKNOWN])
