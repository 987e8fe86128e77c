import dataclasses

import numpy as np
import pytest
import torch

import fimp
from fimp.data import load_cells, simulate
from fimp.errors import FIMPError
from fimp.models import resolve
from fimp.tasks import ExpressionOptions, ExpressionTask
from fimp.tasks.members import Members, default_members
from fimp.train import TrainOptions, evaluate, fit
from fimp.train.loader import sampler_for

OPTIONS = TrainOptions(epochs=4, batch_size=32, device="cpu")


@pytest.fixture(scope="module")
def data():
    return load_cells(simulate.tissue(n_cells=150, n_genes=18, n_pairs=4, seed=1))


@pytest.fixture(scope="module")
def task(data):
    return ExpressionTask(data, ExpressionOptions(members=3))


def built(task, name="fimp-base"):
    network = task.network(resolve(name, dim=16))
    for member in network.members:
        torch.nn.init.normal_(member.head.weight)
    return network


def batch(task, network, name="fimp-base"):
    graph = sampler_for(task, resolve(name), network.hops, 16).sample(np.arange(12))
    return task.inputs(graph.nodes, 0), graph


def test_the_fewer_nodes_the_more_members():
    assert [default_members(nodes) for nodes in (0, 150, 250, 251, 500, 501, 10**6)] == [4, 4, 4, 3, 2, 1, 1]


def test_few_cells_are_answered_by_several_networks_and_many_by_one(data):
    assert len(ExpressionTask(data).network(resolve("mlp")).members) == 4
    assert not isinstance(ExpressionTask(data, ExpressionOptions(members=1)).network(resolve("mlp")), Members)
    assert not isinstance(ExpressionTask(data).network(resolve("mean")), Members)
    many = ExpressionTask(load_cells(simulate.tissue(n_cells=800, n_genes=10, n_pairs=1)))
    assert not isinstance(many.network(resolve("fimp-base")), Members)


def test_other_cells_are_answered_by_as_many(data):
    task = ExpressionTask(data)
    other = ExpressionTask(data, state=task.state())
    assert len(other.network(resolve("mlp")).members) == 4


def test_a_model_answers_with_the_mean_of_its_members(task):
    network = built(task).eval()
    inputs = batch(task, network)
    answers = torch.stack([member(*inputs) for member in network.members])
    assert (answers.std(0) > 0).any()
    torch.testing.assert_close(network(*inputs), answers.mean(0))
    assert network.embed(*inputs).shape == (12, 16)


def test_every_member_is_taught_by_its_own_loss(task):
    # The gradient of one member does not depend on what others say.
    network = built(task, "gcn").train()
    inputs = batch(task, network, "gcn")
    seeds = inputs[0].take(12)
    losses = [task.loss(prediction, seeds) for prediction in network(*inputs)]
    assert len(losses) == 3
    sum(losses[1:]).backward()
    assert all(parameter.grad is None for parameter in network.members[0].parameters())
    assert network.members[1].head.weight.grad.abs().sum() > 0


def test_every_other_member_rarely_hears_neighbours(task):
    isolations = [member.model.isolation for member in task.network(resolve("fimp-base", dim=16)).members]
    assert isolations == [0.0, 0.75, 0.0]
    chosen = task.network(resolve("fimp-base", dim=16, isolation=0.5))
    assert [member.model.isolation for member in chosen.members] == [0.5, 0.5, 0.5]


def test_attention_is_the_mean_of_members(task):
    network = built(task).eval()
    inputs = batch(task, network)

    def rows(one):
        return list(one.attention(*inputs, lambda edges: torch.ones_like(edges[0], dtype=torch.bool)))

    ours, theirs = rows(network), [rows(member) for member in network.members]
    assert len(ours) == len(theirs[0]) > 1
    for part, *others in zip(ours, *theirs, strict=True):
        torch.testing.assert_close(part.weight, sum(other.weight for other in others) / 3)
        assert torch.equal(part.edges, others[0].edges)


@pytest.mark.parametrize("name", ["graphmae", "fimp-base"])
def test_several_networks_train_resume_and_repeat_to_the_digit(task, tmp_path, name):
    choice = resolve(name, dim=16)
    whole = fit(task, choice, OPTIONS, tmp_path / "whole")
    score = evaluate(task, choice, whole.network, task.split["test"], OPTIONS)

    def stop(share, text):
        if share > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(task, choice, OPTIONS, tmp_path / "cut", listener=stop)
    rest = fit(task, choice, OPTIONS, tmp_path / "cut", resume=True)
    assert evaluate(task, choice, rest.network, task.split["test"], OPTIONS) == score
    weights = [torch.cat([p.flatten() for p in member.parameters()]) for member in whole.network.members]
    assert not torch.allclose(weights[0], weights[2])


def test_a_trained_model_of_several_networks_is_saved_and_loaded(tmp_path):
    adata = simulate.tissue(n_cells=100, n_genes=10, n_pairs=1)
    model = fimp.ExpressionModel(adata, model="gcn", device="cpu", dim=16).fit(max_epochs=2)
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(fimp.load(tmp_path / "model", adata).predict(), model.predict())


def test_no_network_at_all_is_refused():
    with pytest.raises(FIMPError, match="--members: 0 is below 1; use 1"):
        dataclasses.replace(ExpressionOptions(), members=0)
