import numpy as np
import pytest
import torch

from fimp.data.masking import EVALUATION
from fimp.data.recordings import Recording, Recordings
from fimp.data.regions import Regions
from fimp.data.simulate import recording
from fimp.errors import FIMPError
from fimp.models.registry import Hyperparameters, ModelChoice, ModelSpec
from fimp.train.evaluation import evaluate
from fimp.train.foundation import brainlm
from fimp.train.foundation.brainlm import BrainLMPretraining, BrainLMSize, WholeBrain, pretrain_brainlm
from fimp.train.foundation.windows import WindowOptions
from fimp.train.options import TrainOptions

R = 6
OPTIONS = WindowOptions(window=20, patch=5, mask_ratio=0.5)
SIZE = BrainLMSize(dim=16, layers=2, heads=2, hidden=16)
CHOICE = ModelChoice("new", ModelSpec("new", "", "foundation", WholeBrain), None, Hyperparameters())
TRAIN = TrainOptions(epochs=2, batch_size=4, device="cpu")


@pytest.fixture(scope="module")
def recordings():
    made = [recording(n_regions=R, n_times=100, subject=number) for number in range(3)]
    items = tuple(Recording(f"{n}.npy", str(n), found.signal, 2.0) for n, found in enumerate(made))
    return Recordings("test", items, Regions(made[0].xyz, tuple("abcdef")))


@pytest.fixture(scope="module")
def task(recordings):
    return BrainLMPretraining(recordings, SIZE, OPTIONS, 0)


def network(task):
    torch.manual_seed(0)
    return task.network(CHOICE).eval()


def test_what_is_hidden_depends_on_seed_epoch_and_window_alone(task, recordings):
    train, val = task.split["train"], task.split["val"]
    alone, together = task.inputs(train[3:4], 2), task.inputs(train, 2)
    assert torch.equal(alone.noise[0], together.noise[3])
    assert torch.equal(alone.signal[0], together.signal[3])
    assert not torch.equal(task.inputs(train, 3).noise, together.noise)
    other = BrainLMPretraining(recordings, SIZE, OPTIONS, 1)
    assert not torch.equal(other.inputs(train, 2).noise, together.noise)
    for epoch in (0, 5):
        assert torch.equal(task.inputs(val, epoch).noise, task.inputs(val, EVALUATION).noise)


@torch.no_grad()
def test_shown_tokens_stand_in_their_natural_order_and_all_are_hidden_alike(task):
    inputs = task.inputs(task.split["train"], 0)
    filled = network(task)(inputs, None)
    assert filled.mask.shape == (len(inputs.signal), R * 4)
    assert filled.mask.sum(1).tolist() == [R * 2] * len(inputs.signal)
    order = inputs.noise.argsort(1)
    shown = order[:, : R * 2]
    assert (shown.diff(dim=1) > 0).all()
    assert not filled.mask.gather(1, shown).any()
    share = torch.stack([network(task)(task.inputs(task.split["train"], e), None).mask for e in range(40)])
    assert (share.float().mean((0, 1)) - 0.5).abs().max() < 0.1


@torch.no_grad()
def test_hidden_values_do_not_reach_the_prediction(task):
    built, inputs = network(task), task.inputs(task.split["val"], EVALUATION)
    filled = built(inputs, None)
    hidden = filled.mask.view(-1, R, 4).repeat_interleave(5, 2)
    again = built(inputs._replace(signal=torch.where(hidden, 1e3, inputs.signal)), None)
    assert torch.equal(again.predicted, filled.predicted)
    shown = built(inputs._replace(signal=torch.where(hidden, inputs.signal, inputs.signal + 1)), None)
    assert not torch.allclose(shown.predicted, filled.predicted)


@torch.no_grad()
def test_the_trained_model_takes_coordinates_as_in_the_table(task, recordings):
    built = network(task)
    inputs = task.inputs(task.split["val"], EVALUATION)
    xyz = torch.from_numpy(recordings.regions.xyz).float().expand(len(inputs.signal), -1, -1)
    found = built.trained().reconstruct(inputs.signal, xyz, noise=inputs.noise)
    torch.testing.assert_close(found.logits.flatten(1, 2), built(inputs, None).predicted, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(built.trained().scaling.iqr, task.windows.scale.iqr)


@torch.no_grad()
def test_windows_go_through_the_model_in_parts_that_do_not_matter(task, monkeypatch):
    whole = evaluate(task, CHOICE, network(task), task.split["val"], TRAIN)
    monkeypatch.setattr(brainlm, "_TOKENS_AT_ONCE", 50)
    assert evaluate(task, CHOICE, network(task), task.split["val"], TRAIN) == pytest.approx(whole, abs=1e-6)


def test_pretraining_learns_what_recordings_share(recordings):
    model, fitted = pretrain_brainlm(
        recordings, SIZE, OPTIONS, TrainOptions(epochs=120, batch_size=18, device="cpu"), lr=5e-3
    )
    assert fitted.steps == 120
    task = BrainLMPretraining(recordings, SIZE, OPTIONS, 0)
    assert evaluate(task, CHOICE, fitted.network, task.split["val"], TRAIN)["r2"] > 0.05
    assert model.config["num_brain_voxels"] == R
    assert not model.training


@pytest.mark.parametrize(("ratio", "what"), [(0.99, "shows"), (0.001, "hides")])
def test_a_ratio_that_leaves_nothing_is_one_line(recordings, ratio, what):
    if what == "hides":
        ratio = float(np.nextafter(0, 1))
    with pytest.raises(FIMPError, match=f"--mask-ratio: .* {what} none of 24 tokens"):
        BrainLMPretraining(recordings, SIZE, WindowOptions(20, 5, ratio), 0)
