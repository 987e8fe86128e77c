import pytest
import torch

from fimp.models import resolve
from fimp.models.gaussian import Gaussian

R, T = 4, 12


def made(length=400, regions=R, seed=0):
    """A signal whose regions and times are correlated."""
    torch.manual_seed(seed)
    mixing = torch.randn(regions, regions, dtype=torch.float64)
    noise = mixing @ torch.randn(regions, length + 20, dtype=torch.float64)
    for time in range(1, noise.size(1)):
        noise[:, time] += 0.7 * noise[:, time - 1]
    return noise[:, 20:]


def covariance(model):
    """The covariance of all values of a window, element by element: ``[R * T, R * T]``."""
    out = torch.zeros(R, T, R, T, dtype=torch.float64)
    for component in range(R):
        vector, lags = model.basis[:, component], model.lags[component]
        for one in range(T):
            for other in range(T):
                out[:, one, :, other] += torch.outer(vector, vector) * lags[abs(one - other)]
    return out.reshape(R * T, R * T)


@pytest.mark.parametrize("settings", [{}, {"own": 0.0}, {"own": 1.0, "taper": 5.0}, {"shrinkage": 1.0, "noise": 1.0}])
def test_the_answer_is_the_conditional_mean(settings):
    model = Gaussian(R, T).fit([made(), made(300, seed=1)], **settings)
    whole = covariance(model)
    assert torch.linalg.eigvalsh(whole).min() > -1e-9 * torch.linalg.eigvalsh(whole).max()
    torch.manual_seed(3)
    visible = torch.rand(R, T) < 0.3
    visible[0, 0] = True
    values = made(seed=2)[:, :T]
    seen = visible.flatten()
    noisy = whole + model.noise * torch.eye(R * T)
    wanted = whole[:, seen] @ torch.linalg.solve(noisy[seen][:, seen], values.flatten()[seen])
    found = model(values, visible)
    torch.testing.assert_close(found.flatten(), wanted, rtol=1e-3, atol=1e-4)
    rubbish = torch.where(visible, values, float("nan"))
    assert torch.equal(model(rubbish, visible), found)


def test_a_separable_covariance_is_a_kronecker_product():
    model = Gaussian(R, T).fit([made()], own=0.0, taper=1e9, shrinkage=0.2)
    rho = model.lags[-1] / model.lags[-1, 0]
    time = rho[(torch.arange(T)[:, None] - torch.arange(T)).abs()]
    signal = made() / made().square().mean().sqrt()
    space = signal @ signal.T / signal.size(1)
    space = 0.8 * space + 0.2 * torch.diag(space.diagonal())
    torch.testing.assert_close(covariance(model), torch.kron(space, time), rtol=1e-6, atol=1e-9)


def test_neighbours_that_agree_are_copied():
    torch.manual_seed(0)
    shared = torch.randn(1, 500, dtype=torch.float64)
    model = Gaussian(3, T).fit([shared.expand(3, -1)], shrinkage=0.0, noise=1e-4)
    visible = torch.zeros(3, T, dtype=torch.bool)
    visible[0] = True
    values = torch.randn(1, T, dtype=torch.float64).expand(3, -1)
    assert float((model(values, visible) - values).abs().max()) < 0.05


def test_amplitude_of_recordings_and_silent_regions_do_no_harm():
    signal = made()
    signal[2] = 0.0
    one, other = (Gaussian(R, T).fit([factor * signal, made(seed=1)]) for factor in (1.0, 100.0))
    torch.testing.assert_close(one.lags, other.lags)
    visible = torch.rand(R, T) < 0.5
    out = Gaussian(R, T).fit([signal])(signal[:, :T], visible)
    assert torch.isfinite(out).all()
    assert out[2].abs().max() < 1e-6
    nothing = Gaussian(R, T).fit([torch.zeros(R, 50)])(signal[:, :T], visible)
    assert (nothing == 0).all()


def test_it_is_a_rule_that_is_not_trained():
    spec = resolve("gaussian").spec
    assert not spec.trainable
    assert spec.baseline
    assert not resolve("interpolate").spec.trainable
