import numpy as np
import pytest
import torch
from scipy import sparse

from fimp.data import statistics
from fimp.data.masking import Masking, TokenSampler
from fimp.data.matrix import normalize_counts
from fimp.data.statistics import depth_statistics, gene_statistics, neighbor_agreement


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


def agreement(values, edges):
    csr = sparse.csr_matrix(values.astype(np.float32))
    mean, deviation, _ = gene_statistics(csr, tokens=values.shape[1], zeros=0.0)
    return neighbor_agreement(csr, edges, np.arange(len(values)), mean, deviation)


@pytest.mark.parametrize("most", [65_536, 400])
def test_agreement_is_high_for_smooth_values_and_none_for_noise(most, monkeypatch):
    monkeypatch.setattr(statistics, "_EDGES", most)
    generator = np.random.default_rng(0)
    place = np.arange(500)
    edges = torch.from_numpy(np.stack([place[:-1], place[1:]]))
    smooth = 2.0 + np.sin(place[:, None] / 20 + generator.uniform(0, 6, 12))
    smooth[generator.random(smooth.shape) < 0.3] = 0.0
    assert agreement(smooth, edges) > 0.95
    assert abs(agreement(generator.permutation(smooth), edges)) < 0.1


def test_agreement_looks_at_nothing_but_the_given_cells():
    values = np.random.default_rng(1).uniform(1, 2, (30, 5))
    edges = torch.randint(0, 30, (2, 200), generator=torch.Generator().manual_seed(0))
    mean, deviation = torch.full((5,), 1.5), torch.full((5,), 0.3)
    nodes = np.arange(20)
    before = neighbor_agreement(sparse.csr_matrix(values), edges, nodes, mean, deviation)
    values[20:] = 100.0
    assert neighbor_agreement(sparse.csr_matrix(values), edges, nodes, mean, deviation) == before
    assert neighbor_agreement(sparse.csr_matrix(values), edges, nodes[:0], mean, deviation) == 0.0
    assert neighbor_agreement(sparse.csr_matrix(0 * values), edges, nodes, mean, deviation) == 0.0


@pytest.mark.parametrize("most", [4096, 50])
def test_depths_of_cells_are_as_spread_as_their_totals(most, monkeypatch):
    monkeypatch.setattr(statistics, "_CELLS", most)
    generator = np.random.default_rng(0)
    total = np.exp(generator.normal(0.0, 0.5, 400))
    values, scale = normalize_counts(
        sparse.csr_matrix(generator.poisson(0.7 * total[:, None], (400, 60)).astype(float))
    )
    mean, deviation = depth_statistics(TokenSampler(values, Masking(), 0, scale), np.arange(400))
    assert mean == pytest.approx(np.log(scale).mean(), abs=0.15)
    assert deviation == pytest.approx(np.log(scale).std(), rel=0.2)


def test_depths_that_are_unknown_or_all_alike_are_none():
    values = sparse.csr_matrix(np.eye(6, dtype=np.float32) + 1)
    cells = np.arange(6)
    assert depth_statistics(TokenSampler(values, Masking(), 0), cells) is None
    values, scale = normalize_counts(values)
    assert depth_statistics(TokenSampler(values, Masking(), 0, scale), cells, hide=False) is None
