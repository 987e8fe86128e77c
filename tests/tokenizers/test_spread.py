import torch

from fimp.tokenizers.spread import ValueSpread


def problem():
    torch.manual_seed(0)
    values, shown = torch.randn(4, 6), torch.rand(4, 6) > 0.4
    shown[3] = False
    return ValueSpread(5).double(), values.double(), 2 * values.double(), shown


def test_equals_order_statistics_and_means():
    spread, values, standard, shown = problem()
    out = spread(values, standard, shown)
    for row in range(3):
        kept = values[row][shown[row]].sort().values
        places = [int((len(kept) - 1) * share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
        told = torch.cat([kept[places], kept.mean()[None], 2 * kept.mean()[None]])
        torch.testing.assert_close(out[row], spread.project(told))


def test_what_is_not_shown_has_no_influence_and_neither_has_order():
    spread, values, standard, shown = problem()
    out = spread(values, standard, shown)
    covered = values.masked_fill(~shown, torch.nan)
    assert torch.equal(spread(covered, covered * 2, shown), out)
    order = torch.randperm(6)
    torch.testing.assert_close(spread(values[:, order], standard[:, order], shown[:, order]), out)


def test_nothing_shown_gives_zero_and_no_nan_in_gradients():
    spread, values, standard, shown = problem()
    values.requires_grad_()
    out = spread(values, standard, shown)
    assert (out[3] == 0).all()
    out.square().sum().backward()
    assert values.grad.isfinite().all()
    assert spread.project.weight.grad.isfinite().all()
    assert spread(values[:, :0], standard[:, :0], shown[:, :0]).shape == (4, 5)


def test_tells_the_smallest_value_which_a_mean_does_not():
    spread = ValueSpread(5)
    shown = torch.ones(1, 4, dtype=torch.bool)
    one, other = torch.tensor([[0.0, 2.0, 2.0, 4.0]]), torch.tensor([[1.0, 2.0, 2.0, 3.0]])
    assert one.mean() == other.mean()
    assert not torch.allclose(spread(one, one, shown), spread(other, other, shown))
