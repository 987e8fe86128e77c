"""Fixtures that several test files share."""

import sys
import warnings
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest
from scipy import sparse

# A first example pays for imports, so no example has a deadline.
hypothesis.settings.register_profile("fimp", deadline=None, max_examples=40)
hypothesis.settings.load_profile("fimp")


@pytest.fixture
def small_adata():
    """30 cells x 12 genes of raw counts with 2-D coordinates, no empty cell."""
    import anndata

    generator = np.random.default_rng(0)
    counts = generator.poisson(1.5, (30, 12)).astype(np.float32)
    counts[:, 0] += 1
    adata = anndata.AnnData(sparse.csr_matrix(counts))
    adata.obs_names = [f"cell{index}" for index in range(30)]
    adata.var_names = [f"gene{index}" for index in range(12)]
    adata.obsm["spatial"] = generator.uniform(0, 100, (30, 2))
    return adata


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Run ``fimp`` in this process: exit code, stdout and stderr, warnings included as a user would see them."""
    from fimp.cli.main import main

    def run(*arguments):
        def show(message, category, *_, **__):
            sys.stderr.write(f"{category.__name__}: {message}\n")

        monkeypatch.setattr(sys, "argv", ["fimp", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        code = 0
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", category)
            warnings.showwarning = show
            try:
                main()
            except SystemExit as stop:
                code = stop.code or 0
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run
