import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from fimp.data import CellOptions, load_cells, simulate
from fimp.errors import FIMPError
from fimp.models import resolve
from fimp.tasks import ExpressionOptions, ExpressionTask, expression
from fimp.train import NeighborSampler, TrainOptions, evaluate


@pytest.fixture(scope="module")
def task():
    return ExpressionTask(
        load_cells(simulate.tissue(n_cells=150, n_genes=18, n_pairs=4)), ExpressionOptions(members=1), seed=1
    )


@given(seed=st.integers(0, 1000), size=st.integers(2, 60))
def test_scores_equal_their_definitions(task, seed, size):
    generator = np.random.default_rng(seed)
    truth, predicted = generator.normal(size=(2, size))
    gene = generator.integers(0, 5, size)
    score = task.score(
        (torch.arange(size), torch.from_numpy(predicted), torch.from_numpy(truth), torch.from_numpy(gene))
    )
    error = (truth - predicted) ** 2
    assert score["mse"] == pytest.approx(error.mean())
    assert score["r2"] == pytest.approx(1 - error.sum() / ((truth - truth.mean()) ** 2).sum())
    within = sum(((truth[gene == g] - truth[gene == g].mean()) ** 2).sum() for g in set(gene))
    if within > 1e-12:
        assert score["r2_gene"] == pytest.approx(1 - error.sum() / within)


def test_the_mean_model_predicts_training_means(task):
    choice = resolve("mean")
    network = task.network(choice)
    values = task.sampler.values[task.split["train"]].toarray()
    means = np.array([values[:, g][values[:, g] != 0].mean() for g in range(values.shape[1])])
    # All tokens of a cell are drawn here, so only the pull of rare genes to the overall mean is left.
    assert np.abs(network.gene_mean.numpy() - means).max() < 0.05
    score = evaluate(task, choice, network, task.split["test"], TrainOptions(device="cpu"))
    assert abs(score["r2_gene"]) < 0.1
    assert score["r2"] > 0.1


def test_loss_looks_only_at_hidden_values(task):
    tokens = task.inputs(np.arange(10), 0)
    prediction = torch.zeros(tokens.targets.shape)
    loss = task.loss(prediction, tokens)
    assert loss == pytest.approx(float(tokens.targets[tokens.hidden].square().mean()), rel=1e-5)
    changed = torch.where(tokens.hidden, prediction, 99.0)
    assert task.loss(changed, tokens) == loss


def test_every_model_gets_the_same_split_and_tokens(task):
    other = ExpressionTask(task.data, task.options, task.seed)
    for part, nodes in task.split.items():
        assert np.array_equal(nodes, other.split[part])
    for ours, theirs in zip(task.inputs(np.arange(9), 4), other.inputs(np.arange(9), 4), strict=True):
        assert torch.equal(ours, theirs)


def test_visible_normalisation_shows_nothing_of_hidden_counts():
    adata = simulate.tissue(n_cells=60, n_genes=18, n_pairs=4)
    task = ExpressionTask(load_cells(adata), ExpressionOptions(normalize="visible"))
    tokens = task.inputs(np.arange(60), -1)
    counts = adata.X.toarray()
    row, column = np.nonzero(tokens.hidden.numpy())
    counts[row, tokens.genes.numpy()[row, column]] *= 7
    adata.X = sparse.csr_matrix(counts)
    again = ExpressionTask(load_cells(adata), ExpressionOptions(normalize="visible")).inputs(np.arange(60), -1)
    shown = tokens.mask & ~tokens.hidden
    # The constant that visible counts are scaled to moved with the data's median; ratios are all there is.
    ratio = torch.expm1(again.values[shown]) / torch.expm1(tokens.values[shown])
    assert ratio.std() < 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 0}, "--tokens: 0"),
        ({"mask_ratio": 0.0}, "mask_ratio: 0.0"),
        ({"zeros": 1.0}, "zeros: 1.0"),
        ({"split": "half"}, "--split: 'half'"),
        ({"normalize": "cpm"}, "--normalize: 'cpm'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(FIMPError, match=message):
        ExpressionOptions(**options)


def sections(quiet):
    """Two sections; the cells of one have no counts to speak of."""
    adata = simulate.tissue(n_cells=60, n_genes=18, n_pairs=4)
    adata.obs["section"] = ["A"] * 30 + ["B"] * 30
    counts = adata.X.toarray() + 1
    counts[adata.obs["section"] == quiet] = np.arange(18) < 3
    adata.X = sparse.csr_matrix(counts)
    return adata


def test_a_test_section_without_values_is_refused():
    data = load_cells(sections("B"), CellOptions(test_section="B", min_counts=10))
    with pytest.raises(FIMPError, match=r"no test cell has a value to predict; .*--min-counts.*another section"):
        ExpressionTask(data)
    # Values that are zero are asked for too.
    ExpressionTask(data, ExpressionOptions(zeros=0.5))
    task = ExpressionTask(load_cells(sections("B"), CellOptions(test_section="B", min_counts=0)))
    ExpressionTask(data, state=task.state())


def test_training_cells_of_which_nothing_is_hidden_are_refused():
    data = load_cells(sections("A"), CellOptions(test_section="B", min_counts=0))
    with pytest.raises(FIMPError, match="no training cell has a value to predict"):
        ExpressionTask(data, ExpressionOptions(mask_ratio=0.1))


@pytest.mark.parametrize("masking", [(50, 0.8), (50, 0.8, 0.3), (50, 0.02), (2, 0.2), (500, 1.0, 0.5)])
def test_what_is_asked_of_cells_is_what_evaluation_hides(masking):
    data = load_cells(sections("B"), CellOptions(min_counts=10))
    sampler, cells = expression.TokenSampler(data.values, expression.Masking(*masking), 0), np.arange(60)[::-1]
    assert sampler.hidden_counts(cells).tolist() == sampler.draw(cells).hidden.sum(1).tolist()


def test_visible_normalisation_needs_counts():
    adata = simulate.tissue(n_cells=30, n_genes=10, n_pairs=2)
    adata.X = adata.X * 0.37
    with pytest.raises(FIMPError, match="needs raw counts"):
        ExpressionTask(load_cells(adata), ExpressionOptions(normalize="visible"))


def test_a_training_step_answers_a_budget_of_queries_and_evaluation_all(monkeypatch):
    task = ExpressionTask(
        load_cells(simulate.tissue(n_cells=60, n_genes=18, n_pairs=4)), ExpressionOptions(members=1), seed=1
    )
    network = task.network(resolve("fimp-base", dim=16))
    graph = NeighborSampler(task.data.edge_index, 60, [-1] * network.hops).sample(np.arange(20))
    tokens = task.inputs(graph.nodes, 0)
    asked = tokens.take(20).asked().genes.size(1)
    monkeypatch.setattr(expression, "QUERIES_PER_STEP", 61)
    assert network.train()(tokens, graph).shape == (20, 4)
    assert network.eval()(tokens, graph).shape == (20, asked)
