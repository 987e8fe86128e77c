import numpy as np
import pytest
import torch

from fimp.errors import FIMPError
from fimp.foundation.brainlm_files import new_brainlm
from fimp.tokenizers.window import PROFILE, WindowInputs

N, P, L = 3, 4, 6


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = new_brainlm(N, P * L, patch=3, dim=8, layers=2, heads=2, hidden=8, decoder_layers=1).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def inputs(hidden):
    torch.manual_seed(1)
    targets, xyz = torch.randn(N, P, L), torch.randn(N, 3)
    values = torch.where(hidden[:, :, None], 0.0, targets)
    return WindowInputs(values, targets, hidden, torch.ones(N), targets, xyz, torch.zeros(N, PROFILE))


def test_a_region_alone_is_the_model_on_its_sequence(model):
    """With nothing hidden, layers on what a region tells give what upstream's encoder gives for one region."""
    content = inputs(torch.zeros(N, P, dtype=torch.bool))
    reader = model.recording_reader(P, L)
    told = reader.told(content)
    assert told.h.shape == (N, 1 + P * 2, 8)
    assert told.mask.all()
    assert torch.equal(reader.queries(content), told.h)
    wanted = model.embed(content.values.flatten(1)[:, None], content.xyz[:, None])
    assert torch.equal(told.h, wanted)


def test_hidden_patches_are_masked_in_what_is_told_and_marked_in_what_is_asked(model):
    hidden = torch.from_numpy(np.random.default_rng(0).random((N, P)) < 0.5)
    content, reader = inputs(hidden), model.recording_reader(P, L)
    torch.nn.init.normal_(reader.mask_token)
    tokens = torch.cat([torch.zeros(N, 1, dtype=torch.bool), hidden.repeat_interleave(2, 1)], 1)
    assert torch.equal(reader.told(content).mask, ~tokens)
    difference = reader.queries(content) - reader.told(content).h
    assert (difference[~tokens] == 0).all()
    torch.testing.assert_close(difference[tokens], reader.mask_token.expand(int(tokens.sum()), -1))
    rubbish = content._replace(values=torch.where(hidden[:, :, None], float("nan"), content.values))
    assert torch.equal(reader.queries(rubbish), reader.queries(content))


def test_frozen_it_learns_its_mask_token_alone(model):
    reader = model.recording_reader(P, L)
    reader.freeze()
    assert [name for name, parameter in reader.named_parameters() if parameter.requires_grad] == ["mask_token"]


def test_patches_that_do_not_fit_are_refused(model):
    with pytest.raises(FIMPError, match="--patch: 4 is no multiple of the patch length 3"):
        model.recording_reader(P, 4)
