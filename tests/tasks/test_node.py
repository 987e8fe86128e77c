from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from fimp.data import read_nodes
from fimp.errors import FIMPError
from fimp.models import resolve
from fimp.tasks import NodeTask, NodeTaskOptions
from fimp.tasks.node import feature_statistics
from fimp.train.evaluation import predict_batches
from fimp.train.fit import fit
from fimp.train.options import TrainOptions
from fimp.train.sampler import NeighborSampler

MODELS = ["mlp", "gcn", "fimp-base"]


def graph(nodes=60, classes=3, splits=2, sparse=False, bare=0, features=12):
    """Edges mostly within a class; a class prefers its own features. The first ``bare`` nodes have none."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(nodes) % classes
    liking = torch.arange(features) % classes == y[:, None]
    x = (torch.rand(nodes, features, generator=generator) < torch.where(liking, 0.6, 0.1)).float()
    x[:bare] = 0.0
    source = torch.arange(nodes).repeat(4)
    target = (source + classes * torch.randint(1, 6, source.shape, generator=generator)) % nodes
    edges = torch.stack([torch.cat([source, target]), torch.cat([target, source])])
    data = Data(x=x.to_sparse_csr() if sparse else x, edge_index=edges, y=y)
    if splits:
        part = torch.stack([torch.randperm(nodes, generator=generator) * 3 // nodes for _ in range(splits)])
        data.train_mask, data.val_mask, data.test_mask = part == 0, part == 1, part == 2
    return read_nodes(data)


def small(name):
    choice = resolve(name)
    return replace(choice, hyperparameters=replace(choice.hyperparameters, dim=16, heads=2, lr=0.01))


def network(task, name):
    torch.manual_seed(0)
    model = task.network(small(name)).eval()
    for parameter in model.parameters():  # heads start at zero, where nothing could be seen
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def scores(task, name, nodes):
    (prediction, _), *_ = predict_batches(task, small(name), network(task, name), nodes, TrainOptions(device="cpu"))
    return prediction


@pytest.mark.parametrize("tokenizer", ["features", "grouped"])
@pytest.mark.parametrize("name", MODELS)
def test_dense_and_sparse_features_give_the_same(name, tokenizer):
    options = NodeTaskOptions(tokens=3, tokenizer=tokenizer, groups=4)
    nodes = np.arange(60)
    dense, other = (NodeTask(graph(sparse=sparse), options) for sparse in (False, True))
    torch.testing.assert_close(scores(dense, name, nodes), scores(other, name, nodes))


@pytest.mark.parametrize("tokenizer", ["features", "grouped"])
@pytest.mark.parametrize("name", MODELS)
def test_scores_do_not_depend_on_the_batch(name, tokenizer):
    task = NodeTask(graph(bare=2), NodeTaskOptions(tokens=3, tokenizer=tokenizer, groups=4))
    whole = scores(task, name, np.arange(60))
    assert torch.isfinite(whole).all()
    few = np.array([41, 1, 7])
    torch.testing.assert_close(scores(task, name, few), whole[few])


@pytest.mark.parametrize("tokenizer", ["features", "grouped"])
@pytest.mark.parametrize("name", MODELS)
def test_nodes_without_features_train_to_finite_numbers(name, tokenizer):
    task = NodeTask(graph(bare=30), NodeTaskOptions(tokens=3, tokenizer=tokenizer, groups=4))
    model = task.network(small(name))
    sampler = NeighborSampler(task.data.edge_index, 60, [-1] * model.hops)
    sub = sampler.sample(np.arange(0, 60, 2))
    inputs = task.inputs(sub.nodes, 0)
    torch.nn.init.normal_(model.head.weight)
    task.loss(model(inputs, sub), inputs.take(sub.num_seeds)).backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad and p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_seeds_take_published_splits_in_turn():
    data = graph(splits=2)
    splits = [NodeTask(data, seed=seed).split for seed in range(3)]
    for part in ("train", "val", "test"):
        assert np.array_equal(splits[0][part], np.flatnonzero(data[f"{part}_mask"][0]))
        assert np.array_equal(splits[1][part], np.flatnonzero(data[f"{part}_mask"][1]))
        assert np.array_equal(splits[2][part], splits[0][part])


def test_without_masks_labelled_nodes_are_split_at_random():
    data = graph(splits=0)
    data.y[:10] = -1
    parts = NodeTask(data, seed=3).split
    assert [len(parts[part]) for part in ("train", "val", "test")] == [35, 5, 10]
    assert sorted(np.concatenate([*parts.values()])) == list(range(10, 60))
    assert not np.array_equal(parts["test"], NodeTask(data, seed=4).split["test"])


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "features"),
        ({"tokens": 1}, "grouped"),  # 3.2 nonzero features a node
        ({"tokens": 2}, "features"),
        ({"tokens": 1, "tokenizer": "features"}, "features"),
        ({"tokenizer": "grouped"}, "grouped"),
    ],
)
def test_the_tokenizer_is_chosen_by_the_number_of_nonzero_features(options, kind):
    task = NodeTask(graph(), NodeTaskOptions(**options))
    assert (task.sampler is not None) == (kind == "features")


def test_two_classes_are_scored_by_the_area_under_the_curve():
    assert NodeTask(graph(classes=2)).monitor == "roc_auc"
    assert NodeTask(graph()).monitor == "accuracy"


@pytest.mark.parametrize("part", ["train", "val"])
def test_two_classes_must_both_be_in_what_models_learn_and_are_chosen_by(part):
    data = graph(classes=2)
    data[f"{part}_mask"][1] &= data.y == 1
    NodeTask(data, seed=0)
    with pytest.raises(FIMPError) as caught:
        NodeTask(data, seed=1)
    whole = {"train": "training", "val": "validation"}[part]
    assert f"Data: the {whole} part of seed 1 has nodes of class 1 only" in str(caught.value)
    assert "give masks that put both classes into every part" in str(caught.value)


def test_a_test_part_of_one_class_may_be():
    data = graph(classes=2)
    data.test_mask &= data.y == 1
    assert NodeTask(data).monitor == "roc_auc"


def test_a_random_split_that_leaves_a_part_without_a_class_is_refused():
    data = graph(classes=2, splits=0)
    data.y[2:] = 0
    with pytest.raises(FIMPError, match=r"part of seed 3 has nodes of class 0 only.*label more nodes"):
        NodeTask(data, seed=3)
    # A trained model is given any nodes.
    state = NodeTask(graph(classes=2)).state()
    NodeTask(data, seed=3, state=state)


def test_every_model_sees_every_feature():
    # With one token per node a vector still holds all features.
    task = NodeTask(graph(), NodeTaskOptions(tokens=1, tokenizer="features"))
    content = task.inputs(np.arange(60), 0).content
    vectors = task.network(small("mlp")).eval().encoder.vectors(content)
    assert torch.equal(vectors[:, 12:], task.data.x)
    _, shown = task.network(small("fimp-base")).eval().encoder.told(content, SimpleNamespace(num_nodes=(60, 60)))
    assert shown.h.shape == (60, 1, 16)


@pytest.mark.parametrize("nonzero", [True, False])
def test_statistics_are_those_of_the_columns(nonzero):
    from scipy import sparse

    dense = np.random.default_rng(0).normal(3.0, 2.0, (50, 4))
    dense[np.random.default_rng(1).random((50, 4)) < 0.4] = 0.0
    dense[:, 3] = 0.0
    dense[:, 2] = 5.0
    mean, deviation = feature_statistics(sparse.csr_matrix(dense), nonzero)
    for column in (0, 1):
        values = dense[dense[:, column] != 0, column] if nonzero else dense[:, column]
        assert mean[column] == pytest.approx(values.mean(), rel=1e-5)
        assert deviation[column] == pytest.approx(values.std(), rel=1e-5)
    assert mean[2:].tolist() == [5.0, 0.0]
    assert deviation[2:].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", MODELS)
def test_models_learn_classes_that_features_tell(name):
    task = NodeTask(graph(nodes=150))
    fitted = fit(task, small(name), TrainOptions(epochs=40, device="cpu"))
    outcomes = [
        task.score(task.outcome(prediction, batch.seeds))
        for prediction, batch in predict_batches(
            task, small(name), fitted.network, task.split["test"], TrainOptions(device="cpu")
        )
    ]
    assert outcomes[0]["accuracy"] > 0.7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tokens": 0}, "--tokens: 0"),
        ({"groups": 0}, "--groups: 0"),
        ({"tokenizer": "words"}, "--tokenizer: 'words' is unknown; use auto, features, grouped"),
        ({"class_weights": "some"}, "--class-weights: 'some'"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(FIMPError, match=words):
        NodeTaskOptions(**options)
