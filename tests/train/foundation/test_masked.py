import numpy as np
import pytest
import torch

from fimp.train.foundation.masked import Filled, MaskedPretraining, split_groups


def test_groups_stay_together():
    groups = np.arange(120) // 3
    split = split_groups(groups, 0)
    assert not set(groups[split["train"]]) & set(groups[split["val"]])
    assert len(split["train"]) == 105
    assert len(split["val"]) == 15
    assert not np.array_equal(split["val"], split_groups(groups, 1)["val"])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_of_a_few_groups_one_validates(count):
    split = split_groups(np.repeat(np.arange(count), 4), 0)
    assert len(split["val"]) == 4
    assert len(split["train"]) == 4 * (count - 1)


def test_a_single_group_does_both():
    split = split_groups(np.zeros(5, int), 0)
    assert len(split["train"]) == len(split["val"]) == 5


class Numbers(MaskedPretraining):
    def inputs(self, nodes, epoch):
        raise AssertionError

    def network(self, choice):
        raise AssertionError


def test_scores_are_those_of_hidden_values_over_all_batches():
    torch.manual_seed(0)
    task = Numbers(10, 0)
    target, predicted = torch.randn(6, 4, 3), torch.randn(6, 4, 3)
    mask = torch.rand(6, 4) < 0.6
    batches = [Filled(predicted[part], target[part], mask[part]) for part in (slice(0, 2), slice(2, 6))]
    parts = [task.outcome(batch, None) for batch in batches]
    score = task.score(tuple(torch.cat(pair) for pair in zip(*parts, strict=True)))
    wanted = target[mask]
    error = (predicted - target)[mask].square()
    assert score["mse"] == pytest.approx(float(error.mean()))
    assert score["r2"] == pytest.approx(float(1 - error.sum() / (wanted - wanted.mean()).square().sum()))
    assert float(task.loss(Filled(predicted, target, mask), None)) == pytest.approx(score["mse"])
