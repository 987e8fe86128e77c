import numpy as np
import pytest
import torch

from fimp.data import load_cells, simulate
from fimp.data.masking import EVALUATION
from fimp.models import resolve
from fimp.tasks import ExpressionTask
from fimp.train.loader import evaluation_loader, evaluation_order, pretraining_loader, sampler_for, training_loader


@pytest.fixture(scope="module")
def task():
    return ExpressionTask(load_cells(simulate.tissue(n_cells=120, n_genes=18, n_pairs=4, seed=2)), seed=1)


def test_pretraining_takes_every_node_as_a_seed_once_and_anew_in_every_epoch(task):
    loader = pretraining_loader(task, sampler_for(task, resolve("graphmae"), 1, 16, training=True), 32)
    orders = []
    for epoch in (0, 1, 0):
        loader.sampler.set_epoch(epoch)
        orders.append([int(node) for batch in loader for node in batch.graph.nodes[: batch.graph.num_seeds]])
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(120))
    assert orders[0] == orders[2] != orders[1]


@pytest.mark.parametrize("make", [training_loader, pretraining_loader])
def test_no_epoch_shows_what_evaluation_hides(task, make):
    loader = make(task, sampler_for(task, resolve("graphmae"), 2, 16, training=True), 32)
    held_out = np.concatenate([task.split["val"], task.split["test"]])

    def shown(inputs, index):
        visible = inputs.mask[index] & ~inputs.hidden[index]
        return set(zip(inputs.genes[index][visible].tolist(), inputs.values[index][visible].tolist(), strict=True))

    fewer = anew = 0
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            # A loader turns arrays into tensors.
            there = task.inputs(np.asarray(batch.graph.nodes), EVALUATION)
            for index, node in enumerate(batch.graph.nodes):
                now, then = shown(batch.inputs, index), shown(there, index)
                if node in held_out:
                    assert now <= then
                    fewer += now < then
                else:
                    anew += not now <= then
    assert fewer > 0
    assert anew > 0


def test_evaluation_takes_all_neighbours_but_for_ego_graphs(task):
    def most(name, training):
        graph = sampler_for(task, resolve(name), 1, 3, training=training).sample(np.arange(120), 0)
        return int(np.bincount(graph.edge_index[1]).max())

    assert (most("sage", True), most("sage", False)) == (3, 8)
    assert (most("gps", True), most("gps", False)) == (3, 3)


def test_encodings_are_of_the_graph_after_its_control(task):
    def encoding(name, edges=None):
        return sampler_for(task, resolve(name), 1, 16, edges=edges).encoding

    assert encoding("sage") is None
    assert encoding("gps") is encoding("gps")
    assert not encoding("gps:no-edges").any()
    assert not torch.equal(encoding("gps:shuffled-edges"), encoding("gps"))
    assert not encoding("gps", task.data.edge_index[:, :0]).any()


def test_training_takes_training_nodes_alone(task):
    loader = training_loader(task, sampler_for(task, resolve("sage"), 1, 16, training=True), 32)
    seeds = [int(node) for batch in loader for node in batch.graph.nodes[: batch.graph.num_seeds]]
    assert sorted(seeds) == sorted(task.split["train"].tolist())


def test_evaluation_takes_nodes_that_lie_together_in_one_batch():
    task = ExpressionTask(load_cells(simulate.tissue(n_cells=2000, n_genes=18, n_pairs=4, seed=2)), seed=1)
    nodes, sampler = np.random.default_rng(0).permutation(2000), sampler_for(task, resolve("sage"), 2, -1)
    batches = list(evaluation_loader(task, sampler, nodes))
    seeds = np.concatenate([batch.graph.nodes[: batch.graph.num_seeds] for batch in batches])
    assert np.array_equal(np.sort(seeds), np.arange(2000))
    assert np.array_equal(seeds, evaluation_order(task, nodes))
    together = np.mean([len(batch.graph.nodes) for batch in batches])
    apart = np.mean([len(sampler.sample(nodes[low : low + 256]).nodes) for low in range(0, 2000, 256)])
    assert together < 0.5 * apart
    # One batch has no order to choose.
    assert np.array_equal(evaluation_order(task, nodes[::-10]), nodes[::-10])
