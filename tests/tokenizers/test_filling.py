import numpy as np
import pytest
import torch

from fimp.errors import FIMPError
from fimp.models import known_models, resolve
from fimp.models.registry import FILLS
from fimp.tokenizers.filling import fill_in, interpolated, visible_mean

N, P, L = 5, 6, 4


@pytest.fixture
def signals():
    torch.manual_seed(0)
    values, noise = torch.randn(N, P, L), torch.randn(N, P, L)
    hidden = torch.rand(N, P) < 0.6
    hidden[:, 2], hidden[0], hidden[0, 5] = False, True, False
    return values, hidden, noise


@pytest.mark.parametrize("how", FILLS)
def test_visible_values_stay_and_hidden_ones_are_not_looked_at(signals, how):
    values, hidden, noise = signals
    filled = fill_in(values, hidden, noise, how)
    assert torch.equal(filled[~hidden], values[~hidden])
    rubbish = torch.where(hidden[:, :, None], float("nan"), values)
    assert torch.equal(fill_in(rubbish, hidden, noise, how), filled)
    assert torch.isfinite(filled).all()


def test_each_way_is_what_it_says(signals):
    values, hidden, noise = signals
    assert torch.equal(fill_in(values, hidden, noise, "noise")[hidden], noise[hidden])
    mean = fill_in(values, hidden, noise, "mean")
    line = fill_in(values, hidden, noise, "interpolate").flatten(1)
    for node in range(N):
        expected = values[node][~hidden[node]].mean()
        torch.testing.assert_close(mean[node][hidden[node]], expected.expand(int(hidden[node].sum()), L))
        seen = np.flatnonzero(np.repeat(~hidden[node].numpy(), L))
        wanted = np.interp(np.arange(P * L), seen, values[node].flatten().numpy()[seen])
        np.testing.assert_allclose(line[node].numpy(), wanted, atol=1e-5)


def test_nodes_that_show_nothing_give_zeros():
    values, hidden = torch.randn(1, P, L), torch.ones(1, P, dtype=torch.bool)
    assert (interpolated(values, hidden) == 0).all()
    assert (visible_mean(values, hidden) == 0).all()


def test_an_unknown_way_is_refused(signals):
    with pytest.raises(FIMPError, match="how='zeros'"):
        fill_in(*signals, "zeros")


def test_names_say_how_to_fill_in():
    choice = resolve("gcn+mean:no-edges")
    assert (choice.name, choice.spec.name, choice.fill, choice.control) == (
        "gcn+mean:no-edges",
        "gcn",
        "mean",
        "no-edges",
    )
    assert [row.name for row in resolve("gcn:no-edges").filled()] == [f"gcn+{fill}:no-edges" for fill in FILLS]
    for row in resolve("gcn:no-edges").filled():
        assert resolve(row.name) == row
    assert resolve("gcn+mean").filled() == [resolve("gcn+mean")]
    for name, spec in known_models().items():
        if spec.input != "vectors":
            assert resolve(name).filled() == [resolve(name)]
            with pytest.raises(FIMPError, match="needs nothing filled in"):
                resolve(f"{name}+mean")
    with pytest.raises(FIMPError, match="'zeros' of 'gcn\\+zeros'"):
        resolve("gcn+zeros")
