import sys

import numpy as np
import pytest
import torch

from fimp.analysis.projection import project


@pytest.fixture
def clouds():
    generator = np.random.default_rng(0)
    return np.concatenate([generator.normal(size=(40, 8)), generator.normal(size=(40, 8)) + 12.0]).astype(np.float32)


def apart(xy):
    """Distance of the two clouds in units of their spread."""
    return np.linalg.norm(xy[:40].mean(0) - xy[40:].mean(0)) / xy[:40].std()


def test_without_umap_it_is_pca_and_says_so(clouds, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    xy, how = project(clouds)
    assert how.startswith("PCA, ")
    assert how.endswith("% of the variance")
    assert apart(xy) > 3.0
    centred = clouds.astype(np.float64) - clouds.mean(0, dtype=np.float64)
    np.testing.assert_allclose((xy**2).sum(0), np.linalg.svd(centred)[1][:2] ** 2, rtol=1e-6)
    assert np.array_equal(xy, project(clouds)[0])


def test_few_dimensions_and_few_points(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    assert project(np.arange(5.0)[:, None])[0].shape == (5, 2)
    xy, how = project(np.ones((4, 3)))
    assert np.array_equal(xy, np.zeros((4, 2)))
    assert "0%" in how


def test_umap_keeps_clouds_apart_and_repeats(clouds):
    pytest.importorskip("umap")
    xy, how = project(clouds)
    assert how == "UMAP"
    assert apart(xy) > 2.0
    assert np.array_equal(xy, project(clouds)[0])
    assert project(clouds[:5])[1].startswith("PCA")


def test_umap_leaves_the_number_of_threads_alone():
    pytest.importorskip("umap")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        project(np.random.default_rng(0).normal(size=(30, 4)))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
