"""A contract that every registered model has to pass."""

import numpy as np
import pytest
import torch

from fimp.data import load_cells, simulate
from fimp.errors import FIMPError
from fimp.models import known_models, resolve, resolve_all
from fimp.models.registry import default_reach
from fimp.tasks import ExpressionOptions, ExpressionTask
from fimp.train import NeighborSampler
from fimp.train.loader import sampler_for

#: The last one hears two rings of neighbours.
NAMES = [*(name for name, spec in known_models().items() if spec.trainable), "fimp-base reach=2"]


@pytest.fixture(scope="module")
def task():
    return ExpressionTask(
        load_cells(simulate.tissue(n_cells=120, n_genes=18, n_pairs=4, seed=2)), ExpressionOptions(members=1), seed=1
    )


def network(task, name, seed=0):
    torch.manual_seed(seed)
    name, _, reach = name.partition(" reach=")
    choice = resolve(name, dim=16, **({"reach": int(reach)} if reach else {}))
    built = task.network(choice)
    built.choice = choice
    # Heads start at zero, which would hide what comes before them.
    torch.nn.init.normal_(built.head.weight)
    return built.eval()


def predict(task, built, seeds, change=lambda tokens: tokens, edges=None):
    graph = sampler_for(task, built.choice, built.hops, 16, edges=edges).sample(np.asarray(seeds))
    tokens = task.inputs(graph.nodes, -1)
    with torch.no_grad():
        out = built(change(tokens), graph)
    seeds_tokens = tokens.take(graph.num_seeds).columns(out.size(1))
    return torch.where(seeds_tokens.hidden, out, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_do_not_depend_on_the_batch(task, name):
    built = network(task, name)
    whole = predict(task, built, np.arange(60))
    for seeds in ([7], [50, 7, 3], np.arange(59, -1, -1)):
        part = predict(task, built, seeds)
        torch.testing.assert_close(part, whole[np.asarray(seeds)][:, : part.size(1)], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_hidden_values_never_reach_the_model(task, name):
    built = network(task, name)

    def tamper(tokens):
        rubbish = torch.where(tokens.hidden | ~tokens.mask, 1e6, tokens.values)
        return tokens._replace(values=rubbish, targets=torch.full_like(tokens.targets, float("nan")))

    assert torch.equal(predict(task, built, np.arange(40), tamper), predict(task, built, np.arange(40)))


@pytest.mark.parametrize("name", NAMES)
def test_visible_values_of_the_node_and_of_neighbours_matter(task, name):
    built = network(task, name)

    def change(where):
        return lambda tokens: tokens._replace(values=tokens.values + where(tokens) * ~tokens.hidden * tokens.mask)

    before = predict(task, built, [5])
    own = predict(task, built, [5], change(lambda t: (torch.arange(len(t.genes)) == 0)[:, None].float()))
    assert not torch.allclose(own, before)
    others = predict(task, built, [5], change(lambda t: (torch.arange(len(t.genes)) > 0)[:, None].float()))
    assert torch.allclose(others, before) == (built.hops == 0)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_tokens_changes_nothing(task, name):
    built = network(task, name)
    order = torch.randperm(18, generator=torch.Generator().manual_seed(0))

    def shuffle_visible(tokens):
        # Hidden tokens come first by contract; those after them may come in any order.
        width = tokens.genes.size(1)
        rank = torch.where(tokens.hidden, -1, order[:width].expand_as(tokens.genes)).argsort(dim=1, stable=True)
        return type(tokens)(*(part.gather(1, rank) for part in tokens[:-1]), tokens.depth)

    moved = predict(task, built, np.arange(30), shuffle_visible)
    torch.testing.assert_close(moved, predict(task, built, np.arange(30)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_isolated_nodes_give_finite_predictions(task, name):
    out = predict(task, network(task, name), np.arange(20), edges=task.data.edge_index[:, :0])
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_receives_a_gradient(task, name):
    built = network(task, name).train()
    graph = sampler_for(task, built.choice, built.hops, 16).sample(np.arange(60))
    tokens = task.inputs(graph.nodes, 0)
    task.loss(built(tokens, graph), tokens.take(60)).backward()
    if built.choice.spec.pretrains:
        graph = sampler_for(task, built.choice, built.model.pretraining_hops, 16).sample(np.arange(60))
        built.pretraining_loss(task.inputs(graph.nodes, 0), graph).backward()
    # Adding a constant to all scores of a softmax changes nothing, so key biases have no gradient.
    missing = [
        n for n, p in built.named_parameters() if "k_proj.bias" not in n and (p.grad is None or not p.grad.any())
    ]
    assert not missing


@pytest.mark.parametrize("name", NAMES)
def test_empty_cells_are_legal(name):
    adata = simulate.tissue(n_cells=40, n_genes=18, n_pairs=4)
    counts = adata.X.toarray()
    counts[:15] = 0
    adata.X = counts
    task = ExpressionTask(load_cells(adata), ExpressionOptions(members=1))
    assert torch.isfinite(predict(task, network(task, name), np.arange(40))).all()


def test_controls_change_the_graph_and_not_the_model(task):
    whole, none = task.edges(resolve("gcn")), task.edges(resolve("gcn:no-edges"))
    shuffled = task.edges(resolve("gcn:shuffled-edges"))
    assert none.shape == (2, 0)
    assert torch.equal(shuffled[1], whole[1])
    assert torch.equal(shuffled[0].sort().values, whole[0].sort().values)
    assert not torch.equal(shuffled[0], whole[0])
    assert resolve("gcn:no-edges").spec is resolve("gcn").spec


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("", "empty"),
        (" , ", "empty"),
        ("gcn,nope", "'nope' is unknown; known are .*fimp-base"),
        ("gcn:without", "control 'without'"),
        ("gcn,gcn", "'gcn' is named 2 times"),
    ],
)
def test_names_that_mean_nothing_are_refused(names, message):
    with pytest.raises(FIMPError, match=message):
        resolve_all(names)


def test_dropout_that_nobody_chose_fits_the_number_of_values():
    choice = resolve("gcn")
    assert choice.hyperparameters.dropout is None
    for values, dropout in ((10**6, 0.1), (20_000, 0.158), (10, 0.3), (0, 0.3)):
        assert choice.for_data(values).hyperparameters.dropout == pytest.approx(dropout, abs=1e-3)
    assert resolve("gcn", dropout=0.0).for_data(10).hyperparameters.dropout == 0.0


def test_a_second_ring_is_heard_where_neighbours_agree_and_nobody_chose():
    assert resolve("fimp-base").for_data(1000, default_reach(0.2)).hyperparameters.reach == 1
    assert resolve("fimp-base").for_data(1000, default_reach(0.8)).hyperparameters.reach == 2
    assert resolve("fimp-base", reach=1).for_data(1000, default_reach(0.8)).hyperparameters.reach == 1


@pytest.mark.parametrize("reach", [1, 2])
def test_an_isolated_node_hears_nobody_in_training_and_all_in_evaluation(task, reach):
    network = task.network(resolve("fimp-base", dim=16, dropout=0.0, isolation=1.0, reach=reach))
    nodes = np.arange(12)
    near = NeighborSampler(task.data.edge_index, task.data.num_nodes, [-1, -1]).sample(nodes)
    alone = NeighborSampler(torch.empty(2, 0, dtype=torch.int64), task.data.num_nodes, [-1, -1]).sample(nodes)
    torch.nn.init.normal_(network.head.weight)

    def answers(graph):
        return network(task.inputs(graph.nodes, 0), graph)

    network.train()
    torch.testing.assert_close(answers(near), answers(alone))
    network.eval()
    assert not torch.allclose(answers(near), answers(alone))


def test_an_impossible_reach_is_refused(task):
    with pytest.raises(FIMPError, match="reach=3; use 1 or 2"):
        task.network(resolve("fimp-base", dim=16, reach=3))

    assert task.network(resolve("fimp-base", dim=16, reach=2, layers=1)).model.reach == 1


def test_an_impossible_isolation_is_refused(task):
    with pytest.raises(FIMPError, match=r"isolation=1\.5 is no probability; use 0\.75"):
        task.network(resolve("fimp-base", dim=16, isolation=1.5))


def test_tokens_of_the_second_ring_are_heard_by_name(task):
    """Without summaries, which travel two hops anyway, only a reach of two hears a node two hops away."""
    edges = torch.tensor([[1, 2], [0, 1]])
    for reach, heard in ((1, False), (2, True)):
        built = network(task, f"fimp-base reach={reach}")
        built.model.summaries.requires_grad_(False)
        for layer in built.model.summaries:
            torch.nn.init.zeros_(layer.conv.message.out_proj.weight)

        def louder(tokens):
            return tokens._replace(values=tokens.values + (torch.arange(len(tokens.genes)) == 2)[:, None])

        before, after = (predict(task, built, [0], change, edges) for change in (lambda tokens: tokens, louder))
        assert (not torch.allclose(before, after)) == heard


def test_unknown_hyperparameters_are_refused():
    with pytest.raises(FIMPError, match="'depth' is unknown"):
        resolve("gcn", depth=3)
