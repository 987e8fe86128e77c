import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fimp.data.masking import CellTokens
from fimp.errors import FIMPError
from fimp.foundation.scgpt import bin_values
from fimp.foundation.scgpt_cells import ScGPTReader, bin_visible
from fimp.foundation.scgpt_files import new_scgpt

GENES = ["Gad1", "Slc17a7", "Mbp", "Aqp4"]


def tokens(values, hidden=None):
    """Cells that show all four genes, padded by one."""
    values = torch.nn.functional.pad(torch.as_tensor(values, dtype=torch.float32), (0, 1))
    genes = torch.tensor([0, 1, 2, 3, 0]).expand(len(values), -1)
    mask = torch.tensor([True] * 4 + [False]).expand(len(values), -1)
    hidden = torch.zeros_like(mask) if hidden is None else hidden
    return CellTokens(genes, values, values, mask, hidden, torch.full((len(genes),), torch.nan))


def reader(style="log1p", ids=(0, 1, 2, 3)):
    torch.manual_seed(0)
    model = new_scgpt(GENES, dim=8, layers=1, heads=2, hidden=8, dropout=0.0)
    model.config["input_style"] = style
    return model, ScGPTReader(model, torch.tensor(ids), torch.full((4,), 2.0), torch.ones(4)).eval()


@given(st.integers(0, 10_000), st.integers(3, 60), st.integers(1, 12))
def test_bins_of_visible_values_are_upstreams(seed, bins, width):
    generator = np.random.default_rng(seed)
    values = generator.choice([generator.uniform(0.1, 5, 5), [1.0, 2.0, 2.0, 3.0, 3.0]][seed % 2], (6, width))
    shown = generator.random((6, width)) < 0.7
    found = bin_visible(torch.from_numpy(values), torch.from_numpy(shown), bins)
    wanted = bin_values(np.where(shown, values, 0.0), bins)
    np.testing.assert_array_equal(found.numpy(), wanted)


def test_zeros_are_a_bin_of_their_own():
    values = torch.tensor([[0.0, 0.0, 1.0, 2.0, 3.0, 0.0]])
    shown = torch.tensor([[True] * 5 + [False]])
    assert bin_visible(values, shown, 51).long().tolist() == [[*bin_values(np.array([0, 0, 1, 2, 3.0])), 0]]


def test_sources_are_the_models_own_embeddings_after_cls():
    model, cells = reader()
    values = torch.tensor([[0.5, 1.0, 2.0, 4.0], [3.0, 1.0, 0.2, 0.1]])
    got = cells.sources(tokens(values))
    ids = torch.tensor([[model.cls_id, 0, 1, 2, 3]] * 2)
    wanted = model.eval().embed(ids, torch.nn.functional.pad(values, (1, 0)))
    torch.testing.assert_close(got.h[:, :5], wanted)
    assert got.mask.tolist() == [[True] * 5 + [False]] * 2


def test_what_is_asked_for_has_upstreams_mask_value_and_not_its_own():
    model, cells = reader()
    asked = tokens(torch.full((1, 4), 7.0))
    wanted = model.eval().embed(asked.genes[:, :4], torch.full((1, 4), -1.0))
    torch.testing.assert_close(cells.queries(asked)[:, :4], wanted)


def test_genes_that_the_model_lacks_start_from_the_mean_of_those_it_has():
    model, cells = reader(ids=(2, -1, 0, -1))
    table = model.gene_embedding.weight
    torch.testing.assert_close(
        cells.gene.weight, torch.stack([table[2], table[[2, 0]].mean(0), table[0], table[[2, 0]].mean(0)])
    )


def test_predictions_are_in_the_units_of_the_data():
    model, cells = reader()
    h, genes = torch.randn(2, 4, 8), torch.tensor([[0, 1, 2, 3]] * 2)
    torch.testing.assert_close(cells.predict(h, genes), model.expression_head(h))
    model, cells = reader("binned")
    with torch.no_grad():
        model.decoder[-1].weight.zero_()
        model.decoder[-1].bias.fill_(50.0)
    torch.testing.assert_close(cells.predict(h, genes), torch.full((2, 4), 2.5))


def test_an_unknown_input_style_is_refused():
    with pytest.raises(FIMPError, match="input_style is 'ranked'"):
        reader("ranked")


@pytest.mark.parametrize("value", ["x", [1]])
def test_a_mask_value_that_is_none_is_refused(value):
    model, _ = reader()
    model.config["mask_value"] = value
    with pytest.raises(FIMPError, match="mask_value"):
        ScGPTReader(model, torch.arange(4), torch.ones(4), torch.ones(4))


def test_what_was_learned_of_genes_goes_back_into_the_model():
    model, cells = reader()
    with torch.no_grad():
        cells.gene.weight += 1.0
        cells.cls += 2.0
    before = model.gene_embedding.weight.clone()
    cells.write_back(model, torch.arange(4))
    torch.testing.assert_close(model.gene_embedding.weight[:4], before[:4] + 1.0)
    torch.testing.assert_close(model.gene_embedding.weight[model.cls_id], before[model.cls_id] + 2.0)
    assert torch.equal(model.gene_embedding.weight[model.pad_id], before[model.pad_id])
