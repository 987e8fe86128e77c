import pytest
import torch

from fimp.errors import FIMPError
from fimp.tokenizers.window import PROFILE, RegionPlace, WindowEncoder, WindowInputs, WindowTokenizer

N, P, L, D = 6, 8, 5, 32


def inputs(seed=0):
    torch.manual_seed(seed)
    targets, hidden = torch.randn(N, P, L), torch.rand(N, P) < 0.5
    values = torch.where(hidden[:, :, None], 0.0, targets)
    xyz, profile = 50 * torch.randn(N, 3), torch.randn(N, PROFILE)
    return WindowInputs(values, targets, hidden, torch.ones(N), torch.randn(N, P, L), xyz, profile)


@pytest.fixture
def tokenizer():
    torch.manual_seed(1)
    out = WindowTokenizer(P, L, D, inputs().xyz)
    torch.nn.init.normal_(out.mask_token)
    return out


def test_tokens_tell_values_place_and_time(tokenizer):
    content = inputs()
    whole = tokenizer(content)
    assert whole.shape == (N, P, D)
    for change in ({"values": content.values + 1.0}, {"xyz": content.xyz + 30.0}, {"profile": content.profile + 1.0}):
        assert not torch.allclose(tokenizer(content._replace(**change)), whole)
    same = content._replace(values=torch.ones_like(content.values), hidden=torch.zeros_like(content.hidden))
    h = tokenizer(same)
    assert not torch.allclose(h[:, 0], h[:, 1])


def test_hidden_values_are_not_looked_at_and_become_the_mask_token(tokenizer):
    content = inputs()
    rubbish = torch.where(content.hidden[:, :, None], float("nan"), content.values)
    out = tokenizer(content._replace(values=rubbish))
    assert torch.equal(out, tokenizer(content))
    rest = tokenizer.where(tokenizer.place(content))[:, None] + tokenizer.time
    torch.testing.assert_close(out[..., D // 2 :], rest.expand(-1, P, -1))
    assert (out[..., : D // 2][content.hidden] == tokenizer.mask_token).all()
    torch.testing.assert_close((out @ tokenizer.values_of().T)[~content.hidden], content.values[~content.hidden])


def test_names_are_of_time_and_region_or_of_time_alone(tokenizer):
    content = inputs()
    whole, alone = tokenizer.names(content)
    assert whole.shape == alone.shape == (N, P, D)
    assert torch.equal(tokenizer.names(inputs()._replace(values=content.values + 1))[0], whole)
    other = tokenizer.names(content._replace(profile=content.profile + 1))
    assert not torch.equal(other[0], whole)
    assert torch.equal(other[1], alone)
    assert torch.equal(alone, alone[:1].expand(N, -1, -1))


@pytest.mark.parametrize("patches", [3, 12])
def test_every_head_knows_names_whole(patches):
    content = inputs()
    profile = torch.nn.functional.normalize(content.profile[:, :4], dim=1)
    content = content._replace(
        profile=torch.nn.functional.pad(profile, (0, PROFILE - 4)), hidden=torch.zeros(N, patches, dtype=torch.bool)
    )
    with torch.no_grad():
        both = WindowTokenizer(patches, L, D, content.xyz).names(content)
    whole, alone = (names.unflatten(2, (4, 8)) for names in both)
    for names in (whole, alone):
        torch.testing.assert_close(names.square().sum(3), torch.full((N, patches, 4), 8.0))
    # Half of a product is that of regions where the time is the same.
    product = torch.einsum("npc,mpc->pnm", whole[:, :, 1], whole[:, :, 1])
    torch.testing.assert_close(product[0], 4.0 + 4.0 * profile @ profile.T)
    if patches == 3:
        assert (whole[0, 0, 0] @ whole[0, 1, 0]) == pytest.approx(4.0, abs=1e-4)
        assert (alone[0, 0, 0] @ alone[0, 1, 0]) == pytest.approx(0.0, abs=1e-4)


def test_places_are_numbers_of_the_order_of_one_wherever_regions_are():
    content = inputs()
    place = RegionPlace(content.xyz)
    out = place(content)
    assert out.shape == (N, RegionPlace.width)
    assert float(out[:, :3].square().mean()) == pytest.approx(1.0, rel=1e-4)
    moved = content._replace(xyz=1000 + 10 * content.xyz)
    torch.testing.assert_close(RegionPlace(moved.xyz)(moved), out, atol=1e-3, rtol=1e-3)
    together = content._replace(xyz=torch.ones(N, 3))
    assert torch.isfinite(RegionPlace(together.xyz)(together)).all()


@pytest.mark.parametrize("fill", ["noise", "mean", "interpolate"])
def test_vectors_are_the_filled_signal_what_is_visible_and_where(fill):
    content = inputs()
    encoder = WindowEncoder("vectors", P, L, D, content.xyz, fill)
    out = encoder.vectors(content)
    assert out.shape == (N, encoder.out_dim)
    assert torch.equal(out[:, : P * L].view(N, P, L), encoder.filled(content))
    assert torch.equal(out[:, P * L : P * L + P], (~content.hidden).float())


def test_what_is_told_is_what_is_visible():
    content = inputs()
    encoder = WindowEncoder("tokens", P, L, D, content.xyz)
    told = encoder.told(content)
    assert encoder.out_dim == D
    assert told.h.shape == (N, P, D)
    assert torch.equal(told.mask, ~content.hidden)
    assert all(len(part) == 2 for part in content.take(2))
    assert torch.equal(content.to(torch.device("cpu")).values, content.values)


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(FIMPError, match="dim=6"):
        WindowTokenizer(P, L, 6, inputs().xyz)
