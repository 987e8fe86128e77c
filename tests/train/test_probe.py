from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from fimp.train.probe import _groups, _penalty

EVEN = dict.fromkeys(range(4), 1.0)


def test_images_of_a_place_go_together_and_others_alone():
    def groups(places, nodes):
        task = SimpleNamespace(data=Data(places=None if places is None else torch.tensor(places)))
        return _groups(task, np.array(nodes))

    assert groups(None, [3, 5, 6]).tolist() == [3, 5, 6]
    together = groups([0, 1, 0, -1, -1, 1], [0, 2, 3, 4, 5])
    assert together[0] == together[1]
    assert len(set(together.tolist())) == 4


@pytest.mark.parametrize("weak", [True, False])
def test_the_penalty_fits_the_embeddings(weak):
    """A class that hides in the smallest direction needs weights that one in many noisy directions must not have."""
    generator = np.random.default_rng(0)
    y = np.arange(120) % 2
    if weak:
        base = generator.standard_normal((120, 1))
        x = np.concatenate([base, base + 0.02 * (2 * y - 1)[:, None]], axis=1)
    else:
        x = generator.standard_normal((120, 200)) + 0.03 * (2 * y - 1)[:, None]
    chosen = _penalty(x, y, np.arange(120), EVEN, 0)
    assert chosen >= 100.0 if weak else chosen <= 0.1
    assert chosen == _penalty(x, y, np.arange(120), EVEN, 0)


def test_what_cannot_be_divided_is_fitted_as_it_is():
    assert _penalty(np.ones((4, 2)), np.array([0, 1, 2, 3]), np.arange(4), EVEN, 0) == 1.0
    assert _penalty(np.ones((4, 2)), np.array([0, 0, 1, 1]), np.zeros(4, dtype=int), EVEN, 0) == 1.0
