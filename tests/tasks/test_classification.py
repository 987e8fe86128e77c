import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from fimp.tasks.classification import ClassificationTask, weighted_auroc


class Bare(ClassificationTask):
    """Metrics and loss alone."""

    name = "bare"
    ranks_two_classes = True

    def __init__(self, labels, num_classes, class_weights="none"):
        from torch_geometric.data import Data

        self.data = Data(y=torch.as_tensor(labels))
        self.split = {"train": np.arange(len(labels))}
        super().__init__(num_classes, class_weights, {})

    def inputs(self, nodes, epoch):
        raise NotImplementedError

    def network(self, choice):
        raise NotImplementedError


@given(seed=st.integers(0, 1000), classes=st.integers(2, 6), size=st.integers(4, 60))
def test_scores_equal_those_of_scikit_learn(seed, classes, size):
    generator = np.random.default_rng(seed)
    truth = np.concatenate([[0, 1], generator.integers(0, classes, size - 2)])
    scores = generator.normal(size=(size, classes))
    task = Bare(truth, classes)
    node = generator.permutation(size)
    out = task.score(tuple(map(torch.from_numpy, (node, scores, truth))))
    predicted = scores.argmax(1)
    assert out["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert out["f1"] == pytest.approx(f1_score(truth, predicted, average="weighted"), abs=1e-6)
    assert out["f1_macro"] == pytest.approx(f1_score(truth, predicted, average="macro"), abs=1e-6)
    assert ("roc_auc" in out) == (classes == 2) == (task.monitor == "roc_auc")
    if classes == 2:
        assert out["roc_auc"] == pytest.approx(roc_auc_score(truth, scores[:, 1] - scores[:, 0]), abs=1e-6)
    kept = task.node_statistics(tuple(map(torch.from_numpy, (node, scores, truth))))
    assert task.resampled(kept, np.ones((1, size)))[0] == pytest.approx(out[task.monitor], abs=1e-6)


def test_confident_scores_are_ranked_as_well_as_others():
    task = Bare(np.array([0, 1]), 2)
    scores = torch.tensor([[0.0, 18.0], [0.0, 25.0], [0.0, 40.0]])
    assert task.score((torch.arange(3), scores, torch.tensor([0, 1, 1])))["roc_auc"] == 1.0
    assert np.isnan(task.score((torch.arange(3), scores, torch.tensor([1, 1, 1])))["roc_auc"])


@given(seed=st.integers(0, 1000))
def test_weighted_auroc_equals_that_of_repeated_nodes(seed):
    generator = np.random.default_rng(seed)
    score = generator.integers(0, 6, 30).astype(float)  # with ties
    positive = generator.random(30) < 0.4
    weights = generator.integers(0, 4, (3, 30)).astype(float)
    for weight, area in zip(weights, weighted_auroc(score, positive, weights), strict=True):
        kept = np.repeat(np.arange(30), weight.astype(int))
        if len(set(positive[kept])) == 2:
            assert area == pytest.approx(roc_auc_score(positive[kept], score[kept]))
        else:
            assert np.isnan(area)


def test_one_class_in_a_part_has_no_area_under_the_curve():
    task = Bare([0, 1, 0], 2)
    out = task.score((torch.arange(2), torch.randn(2, 2), torch.zeros(2, dtype=torch.int64)))
    assert np.isnan(out["roc_auc"])


def test_balanced_weights_make_classes_count_alike():
    labels = [0] * 90 + [1] * 10
    weight = Bare(labels, 3, "balanced").class_weight
    assert weight[0] * 90 == pytest.approx(float(weight[1] * 10))
    assert torch.equal(Bare(labels, 3).class_weight, torch.ones(3))


def test_the_prior_is_the_frequency_in_training():
    prior = Bare([0] * 90 + [1] * 10, 3).log_prior.exp()
    assert prior.tolist() == pytest.approx([91 / 103, 11 / 103, 1 / 103])
