import numpy as np
import pytest
import torch

from fimp.analysis.sums import PairSums
from fimp.errors import FIMPError
from fimp.tasks.attention import EdgeAttention


def some_edges(count=40, seed=0):
    rng = torch.Generator().manual_seed(seed)
    weight = torch.rand(count, 3, 4, generator=rng)
    receiver = torch.randint(-1, 5, (count, 3), generator=rng)
    sender = torch.randint(-1, 6, (count, 4), generator=rng)
    return EdgeAttention(weight, receiver, sender, torch.zeros(2, count, dtype=torch.int64))


def test_sums_are_those_of_a_plain_loop_whatever_the_chunks():
    part = some_edges()
    layer = torch.randint(-1, 2, (40,), generator=torch.Generator().manual_seed(1))
    total, count = np.zeros((2, 5, 6)), np.zeros((2, 5, 6), int)
    for e in range(40):
        for t in range(3):
            for s in range(4):
                at = int(layer[e]), int(part.receiver[e, t]), int(part.sender[e, s])
                if min(at) >= 0:
                    total[at] += float(part.weight[e, t, s])
                    count[at] += 1
    for chunk in (1, 7, 40):
        sums = PairSums(2, 5, 6)
        for start in range(0, 40, chunk):
            piece = slice(start, start + chunk)
            edges = part.edges[:, piece]
            sums.add(EdgeAttention(*(one[piece] for one in part[:3]), edges), layer[piece])
        assert np.array_equal(sums.count, count)
        np.testing.assert_allclose(np.nan_to_num(sums.mean), total / np.maximum(count, 1), rtol=1e-12)
        assert np.isnan(sums.mean[count == 0]).all()


def test_tables_that_would_not_fit_are_refused():
    with pytest.raises(FIMPError, match=r"100 tables of 20,000 x 20,000 tokens take 447\.0 GiB"):
        PairSums(100, 20_000, 20_000)
