import numpy as np
import pytest
from scipy import sparse

from fimp.data.statistics import gene_statistics


def test_gene_statistics_weigh_tokens_by_their_chance_of_being_drawn():
    # Cell 0 has four genes of which two tokens are drawn, cell 1 has only gene 0: its chance is one.
    values = sparse.csr_matrix(np.array([[2.0, 1.0, 1.0, 1.0], [8.0, 0.0, 0.0, 0.0]], dtype=np.float32))
    mean, _, _ = gene_statistics(values, tokens=2, zeros=0.0)
    weight = np.array([0.5, 1.0])
    overall = (0.5 * 5 + 8) / 3.0
    assert mean[0] == pytest.approx(((weight * [2, 8]).sum() + overall) / (weight.sum() + 1), rel=1e-5)


def test_zeros_pull_the_means_towards_zero():
    values = sparse.csr_matrix(np.random.default_rng(0).poisson(0.7, (200, 10)).astype(np.float32))
    expressed, mixed = (gene_statistics(values, tokens=8, zeros=z)[0] for z in (0.0, 0.5))
    assert (mixed < expressed).all()
