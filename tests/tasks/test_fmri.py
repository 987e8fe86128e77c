from dataclasses import replace

import numpy as np
import pytest
import torch

from fimp.data import simulate
from fimp.data.masking import EVALUATION
from fimp.data.recording_graph import RecordingOptions, read_recording_graph
from fimp.errors import FIMPError
from fimp.foundation import load
from fimp.foundation.brainlm_files import new_brainlm, save_brainlm
from fimp.models import resolve
from fimp.tasks import FMRIOptions, FMRITask
from fimp.tasks.fmri import TOKENS_LR
from fimp.train import TrainOptions, evaluate, fit
from fimp.train.evaluation import outcomes, predict_batches
from fimp.train.loader import evaluation_loader, sampler_for, training_loader

OPTIONS = TrainOptions(epochs=3, batch_size=32, device="cpu")
READING = RecordingOptions(window=40, patch=5, neighbors=3)
R, P, L = 10, 8, 5


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = simulate.recordings(tmp_path_factory.mktemp("recordings"), n_subjects=4, n_regions=R, n_times=90)
    return read_recording_graph(folder, READING)


@pytest.fixture(scope="module")
def task(data):
    return FMRITask(data, seed=0)


@pytest.fixture(scope="module")
def brainlm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "brainlm"
    torch.manual_seed(0)
    save_brainlm(new_brainlm(R, 40, patch=5, dim=8, layers=2, heads=2, hidden=8, decoder_layers=1), folder)
    return folder


def small(name, brainlm):
    return resolve(name.format(brainlm), **({} if "{}" in name else {"dim": 16}))


def perturbed(task, choice):
    torch.manual_seed(0)
    network = task.network(choice).eval()
    for parameter in network.parameters():
        if parameter.requires_grad and parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return network


BASELINES = ["mlp", "gcn", "sage", "gat", "gin", "gps", "graphmae"]
MODELS = ["mean", "interpolate", "gaussian", *(f"{name}+mean" for name in BASELINES), "gcn+noise", "gcn+interpolate"]
MODELS += ["fimp-base", "fm:{}", "fimp:{}", "fm:{},scope=graph"]


def first_window(task, part="test"):
    return np.arange(R) + task.split[part].min()


@pytest.mark.parametrize("name", MODELS)
def test_predictions_do_not_depend_on_the_batch(task, brainlm, name):
    choice = small(name, brainlm)
    network, nodes = perturbed(task, choice), task.split["test"][:14]
    whole = next(predict_batches(task, choice, network, nodes, OPTIONS))[0]
    assert whole.shape == (14, P, L)
    alone = torch.cat([next(predict_batches(task, choice, network, nodes[k : k + 1], OPTIONS))[0] for k in range(14)])
    torch.testing.assert_close(whole, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("part", ["val", "test"])
def test_what_evaluation_hides_reaches_no_model(data, brainlm, name, part):
    task = FMRITask(data, seed=1)
    choice, nodes = small(name, brainlm), first_window(task, part)
    network, inputs = perturbed(task, choice), task.inputs(nodes, EVALUATION)
    before = [next(predict_batches(task, choice, network, nodes, OPTIONS))[0], task.inputs(nodes, 3).noise]
    window = nodes[0] // R
    owner, start = task.windows.places.recording[window], task.windows.places.start[window]
    hidden = inputs.hidden.repeat_interleave(L, 1).numpy()
    task.windows.signals[owner][:, start : start + 40][hidden] = 1e4
    changed = task.inputs(nodes, EVALUATION)
    assert not torch.equal(changed.targets, inputs.targets)
    for field in ("values", "hidden", "spread", "noise"):
        assert torch.equal(getattr(changed, field), getattr(inputs, field)), field
    assert torch.equal(next(predict_batches(task, choice, network, nodes, OPTIONS))[0], before[0])
    task.windows.signals[owner][:, start : start + 40][~hidden] *= np.linspace(0.5, 2.0, (~hidden).sum())
    if name != "mean":
        assert not torch.allclose(next(predict_batches(task, choice, network, nodes, OPTIONS))[0], before[0])


@pytest.mark.parametrize(
    "name", ["gcn+mean", "fimp-base", "fimp:{}", "fm:{}", "fm:{},scope=graph", "fimp-base:no-edges"]
)
def test_neighbours_matter_where_there_are_edges(task, brainlm, name):
    choice, nodes = small(name, brainlm), first_window(task)[:1]
    network = perturbed(task, choice)
    graph = sampler_for(task, choice, network.hops, 16).sample(nodes)
    inputs = task.inputs(graph.nodes, EVALUATION)
    others = inputs.values.clone()
    others[1:] *= 2.0
    with torch.no_grad():
        same = torch.equal(network(inputs, graph), network(inputs._replace(values=others), graph))
    assert same == (network.hops == 0 or ":no-edges" in name)


def test_every_region_hides_and_shows_and_evaluation_hides_the_same(task):
    train, test = task.split["train"], task.split["test"]
    for nodes in (train, test):
        assert (task.inputs(nodes, 0).hidden.sum(1) == 6).all()
    assert torch.equal(task.inputs(test, 0).hidden, task.inputs(test, EVALUATION).hidden)
    assert torch.equal(task.inputs(test, 0).targets, task.inputs(test, 9).targets)
    masks = [task.inputs(train, epoch).hidden for epoch in range(3)]
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[1], masks[2])
    part = task.inputs(train[5:9], 1)
    assert torch.equal(part.hidden, masks[1][5:9])
    assert torch.equal(part.noise, task.inputs(train, 1).noise[5:9])
    assert (part.values[part.hidden] == 0).all()
    assert not torch.equal(task.inputs(train, 0).targets, task.inputs(train, 1).targets)


def test_each_region_is_in_units_of_what_its_window_shows(task):
    nodes = first_window(task)
    inputs = task.inputs(nodes, EVALUATION)
    power = (inputs.values * inputs.spread[:, None, None])[~inputs.hidden].square().view(R, -1).mean(1)
    torch.testing.assert_close(inputs.spread, (0.5 * (power + power.mean())).sqrt())
    part = task.inputs(nodes[3:5], EVALUATION)
    assert torch.equal(part.values, inputs.values[3:5])
    window = nodes[0] // R
    truth = task.windows.read(np.array([window]), EVALUATION)[0].reshape(R, P, L)
    np.testing.assert_allclose((inputs.targets * inputs.spread[:, None, None]).numpy(), truth, rtol=1e-5)


@pytest.mark.parametrize("masking", ["blocks", "future"])
def test_other_masks_are_those_of_all_regions(data, masking):
    task = FMRITask(data, FMRIOptions(masking=masking), seed=0)
    for window in range(3):
        hidden = task.inputs(np.arange(R) + R * window, 0).hidden
        assert (hidden == hidden[0]).all()
        assert int(hidden[0].sum()) == 6
        if masking == "future":
            assert hidden[0].tolist() == [False] * 2 + [True] * 6


@pytest.mark.parametrize(("ratio", "count"), [(0.01, 1), (0.5, 4), (0.99, 7)])
def test_some_patches_are_hidden_and_some_are_not(data, ratio, count):
    task = FMRITask(data, FMRIOptions(mask_ratio=ratio), seed=0)
    assert (task.inputs(np.arange(R), 0).hidden.sum(1) == count).all()


def test_windows_do_not_meet(task):
    data = task.data
    assert data.num_nodes == len(task.windows) * R
    src, dst = data.edge_index
    assert torch.equal(src // R, dst // R)
    assert data.edge_index.size(1) == 3 * data.num_nodes
    assert torch.equal(data.section, torch.arange(data.num_nodes) // R)
    shuffled = task.edges(resolve("fimp-base:shuffled-edges"))
    assert torch.equal(shuffled[0] // R, shuffled[1] // R)
    first, second = (
        part[:, part[1] // R == number] % R for part, number in ((data.edge_index, 0), (data.edge_index, 1))
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize(("batch_size", "windows"), [(2 * R + 3, 2), (R - 1, 1)])
def test_batches_are_whole_windows(task, batch_size, windows):
    sampler = sampler_for(task, resolve("gcn+mean"), 2, 16, training=True)
    epochs = []
    for loader in (training_loader(task, sampler, batch_size), evaluation_loader(task, sampler, task.split["test"])):
        seeds = [torch.as_tensor(batch.graph.nodes)[: batch.graph.num_seeds].numpy() for batch in loader]
        epochs.append(np.concatenate(seeds))
        for some in seeds:
            assert (some.reshape(-1, R) % R == np.arange(R)).all()
            assert (some.reshape(-1, R) // R == some[::R, None] // R).all()
        if loader.sampler.shuffle:
            assert [len(some) for some in seeds[:-1]] == [windows * R] * (len(seeds) - 1)
            assert len(seeds) == len(loader)
    assert np.array_equal(np.sort(epochs[0]), np.sort(task.split["train"]))
    assert np.array_equal(epochs[1], task.split["test"])


def test_other_graphs_are_measured_on_training_recordings_alone(data):
    recordings = data.recordings
    for kind in ("functional", "structural"):
        reading = RecordingOptions(window=40, patch=5, neighbors=2, graph=kind)
        whole = data.clone()
        whole.reading = reading
        task = FMRITask(whole, seed=0)
        assert int(torch.bincount(task.region_edges[1]).max()) == 2
        held = {int(task.windows.places.recording[node // R]) for part in ("val", "test") for node in task.split[part]}
        rng = np.random.default_rng(0)
        other = [
            replace(item, signal=rng.standard_normal(item.signal.shape), structural=rng.random((R, R)))
            if index in held
            else item
            for index, item in enumerate(recordings.recordings)
        ]
        whole.recordings = replace(recordings, recordings=tuple(other))
        again = FMRITask(whole, seed=0)
        assert torch.equal(again.region_edges, task.region_edges)
        assert torch.equal(again.profiles, task.profiles)
        np.testing.assert_array_equal(again.windows.scale.iqr, task.windows.scale.iqr)


@pytest.mark.parametrize("name", ["sage+noise", "fimp-base", "fm:{}", "fimp:{}", "fimp:{},train=frozen", "gaussian"])
def test_every_kind_of_model_runs_and_repeats(task, brainlm, name):
    choice = small(name, brainlm)
    scores = [evaluate(task, choice, fit(task, choice, OPTIONS).network, task.split["test"], OPTIONS) for _ in range(2)]
    assert scores[0] == scores[1]
    assert set(scores[0]) == {"mse", "r2"}
    assert np.isfinite(scores[0]["r2"])


def test_scores_are_of_the_scaled_signal_and_resamples_agree(task):
    choice = resolve("interpolate")
    outcome = outcomes(task, choice, task.network(choice), task.split["test"], OPTIONS)
    score = task.score(outcome)
    nodes, predicted, truth = outcome
    assert len(nodes) == 6 * len(task.split["test"])
    squared = float((predicted - truth).double().square().mean())
    assert score["mse"] == pytest.approx(squared)
    assert score["r2"] == pytest.approx(1 - squared / float(truth.double().var(correction=0)))
    statistics = task.node_statistics(outcome)
    assert statistics.shape == (R, 4)
    assert task.resampled(statistics, np.ones((1, R)))[0] == pytest.approx(score["r2"])


def test_a_state_makes_the_same_task_of_other_recordings(data, task):
    again = FMRITask(data, seed=0, state=task.state())
    assert again.split == {}
    places = again.windows.places
    assert places.start.tolist() == [0, 40, 50] * 4
    assert places.recording.tolist() == np.arange(4).repeat(3).tolist()
    for one, other in zip(task.windows.signals, again.windows.signals, strict=True):
        np.testing.assert_array_equal(one, other)
    assert torch.equal(again.region_edges, task.region_edges)
    assert torch.equal(again.profiles, task.profiles)
    inputs = again.inputs(np.arange(again.data.num_nodes), 0)
    assert (inputs.hidden.sum(1) == 6).all()
    assert torch.equal(inputs.hidden, again.inputs(np.arange(again.data.num_nodes), 5).hidden)


def test_nothing_is_hidden_of_what_is_shown(task):
    nodes = first_window(task)
    inputs = task.shown(nodes)
    assert not inputs.hidden.any()
    assert torch.equal(inputs.values, inputs.targets)
    truth = task.windows.read(nodes[:1] // R, EVALUATION)[0].reshape(R, P, L)
    np.testing.assert_allclose((inputs.values * inputs.spread[:, None, None]).numpy(), truth, rtol=1e-5, atol=1e-6)


def test_models_of_other_things_are_refused(task, tmp_path):
    from fimp.foundation.vit_mae import new_vit_mae, save_vit_mae

    sizes = {"dim": 16, "layers": 1, "heads": 2, "hidden": 16, "decoder_dim": 8, "decoder_layers": 1}
    save_vit_mae(new_vit_mae(16, 8, **sizes), tmp_path / "vit")
    with pytest.raises(FIMPError, match="reads no recordings"):
        task.network(resolve(f"fimp:{tmp_path / 'vit'}"))
    with pytest.raises(FIMPError, match="embeddings of genes"):
        task.network(resolve("fimp-base,genes=x.npz"))


def test_embeddings_are_one_vector_per_region(task, brainlm):
    for name in ("gcn+mean", "fimp-base", "fimp:{}"):
        choice = small(name, brainlm)
        network = task.network(choice).eval()
        graph = sampler_for(task, choice, network.hops, 16).sample(np.arange(4))
        assert network.embed(task.inputs(graph.nodes, EVALUATION), graph).shape == (4, network.model.out_dim)
    network = task.network(resolve("interpolate"))
    with pytest.raises(FIMPError, match="no states"):
        network.embed(task.inputs(graph.nodes, EVALUATION), graph)
    with pytest.raises(FIMPError, match="no states"):
        task.network(resolve("gaussian")).embed(task.inputs(graph.nodes, EVALUATION), graph)


def test_rows_are_one_for_each_way_to_fill_in_and_tokens_learn_slowly(task):
    rows = task.rows([resolve("gaussian"), resolve("gcn"), resolve("sage+noise"), resolve("fimp-base")])
    names = ["gaussian", "gcn+noise", "gcn+mean", "gcn+interpolate", "sage+noise", "fimp-base"]
    assert [row.name for row in rows] == names
    assert [row.hyperparameters.lr for row in rows[1:]] == [3e-3] * 4 + [TOKENS_LR]
    (tuned,) = task.rows([resolve("fimp-base", lr=1e-3)])
    assert tuned.hyperparameters.lr == 1e-3


def test_a_whole_brain_is_one_sequence_and_untrained_what_the_model_says(task, brainlm):
    choice, nodes = resolve(f"fm:{brainlm},scope=graph"), first_window(task)
    network = task.network(choice).eval()
    predicted = next(predict_batches(task, choice, network, nodes, OPTIONS))[0]
    inputs = task.inputs(nodes, EVALUATION)
    model = load(brainlm).eval()
    # Noise that is least where a patch is visible keeps these, in their order.
    order = torch.arange(R * P)[None] + R * P * inputs.hidden.reshape(1, -1)
    with torch.no_grad():
        wanted = model.reconstruct(inputs.values.reshape(1, R, P * L), inputs.xyz[None], 0.75, order)
    assert torch.equal(wanted.mask[0], inputs.hidden)
    torch.testing.assert_close(predicted, wanted.logits[0])
    # Some regions of a window are answered as all of them are.
    few = next(predict_batches(task, choice, network, nodes[[7, 2]], OPTIONS))[0]
    torch.testing.assert_close(few, predicted[[7, 2]])
    with pytest.raises(FIMPError, match="scope=graph takes the model as it is"):
        resolve(f"fm:{brainlm},scope=graph,train=frozen")
    with pytest.raises(FIMPError, match="use it with fm:FOLDER"):
        resolve(f"fimp:{brainlm},scope=graph")
