import pytest
import torch

from fimp.errors import FIMPError
from fimp.tokenizers import CellToken, GeneTokenizer


def tokens(seed=0, cells=3, width=5, genes=9):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randperm(genes, generator=generator)[:width] for _ in range(cells)])
    values = torch.randn(cells, width, generator=generator)
    mask = torch.rand(cells, width, generator=generator) > 0.3
    hidden = (torch.rand(cells, width, generator=generator) > 0.5) & mask
    return ids, values, mask, hidden


@pytest.mark.parametrize("combine", ["add", "concatenate"])
def test_hidden_and_padded_values_have_no_influence(combine):
    ids, values, mask, hidden = tokens()
    tokenizer = GeneTokenizer(9, 8, combine)
    torch.nn.init.normal_(tokenizer.mask_token)
    out = tokenizer(ids, values, mask, hidden)
    changed = torch.where(hidden | ~mask, float("nan"), values)
    assert torch.equal(tokenizer(ids, changed, mask, hidden).h, out.h)
    assert (out.h[~mask] == 0).all()
    assert torch.equal(out.mask, mask)


@pytest.mark.parametrize("combine", ["add", "concatenate"])
def test_visible_values_and_genes_matter(combine):
    ids, values, mask, hidden = tokens()
    tokenizer = GeneTokenizer(9, 8, combine)
    out = tokenizer(ids, values, mask, hidden).h
    seen = mask & ~hidden
    assert (tokenizer(ids, values + 1.0, mask, hidden).h != out)[seen].any(-1).all()
    assert torch.equal(tokenizer(ids, values + 1.0, mask, hidden).h[hidden], out[hidden])
    assert (tokenizer((ids + 1) % 9, values, mask, hidden).h != out)[mask].any(-1).all()


def test_all_hidden_equals_the_general_path():
    ids, values, mask, _ = tokens()
    tokenizer = GeneTokenizer(9, 8)
    torch.nn.init.normal_(tokenizer.mask_token)
    some = mask.clone()
    some[0, mask[0].nonzero()[0]] = False
    shortcut, general = tokenizer(ids, values, mask, mask).h, tokenizer(ids, values, mask, some).h
    torch.testing.assert_close(shortcut[some], general[some])


def test_a_given_table_is_used_projected_and_frozen():
    table = torch.randn(9, 4)
    tokenizer = GeneTokenizer(9, 8, embedding=table, freeze=True)
    assert torch.equal(tokenizer.gene.weight, table)
    ids, values, mask, hidden = tokens()
    tokenizer(ids, values, mask, hidden).h.sum().backward()
    assert tokenizer.gene.weight.grad is None
    assert tokenizer.to_dim.weight.grad is not None


def test_errors_name_what_is_wrong():
    with pytest.raises(FIMPError, match="combine='multiply'"):
        GeneTokenizer(9, 8, "multiply")
    with pytest.raises(FIMPError, match=r"shape \[3, 4\], wanted \[9, width\]"):
        GeneTokenizer(9, 8, embedding=torch.zeros(3, 4))


def test_cell_token_sums_what_is_visible_and_knows_what_is_hidden():
    ids, values, mask, hidden = tokens()
    tokenizer, cell = GeneTokenizer(9, 8), CellToken(9, 8)

    def token(values, hidden, order=slice(None)):
        return cell(ids[:, order], values[:, order], mask[:, order], hidden[:, order], tokenizer)

    out = token(values, hidden)
    assert out.shape == (3, 1, 8)
    torch.testing.assert_close(token(values, hidden, torch.tensor([4, 2, 0, 1, 3])), out)
    assert torch.equal(token(torch.where(hidden | ~mask, float("nan"), values), hidden), out)
    assert not torch.allclose(token(values + 1, hidden), out)
    assert not torch.allclose(token(values, mask), out)
