import os
import sys
import warnings
from typing import NamedTuple

import hypothesis
import numpy as np
import pytest
import torch
from scipy import sparse

from fimp.cli.main import main

# Without a GPU, Triton kernels are tested in its interpreter. Triton settles this when it is first imported, which
# none of the imports above does.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The first example pays for imports, so no example has a deadline.
hypothesis.settings.register_profile("fimp", deadline=None, max_examples=40)
hypothesis.settings.load_profile("fimp")

#: What Python hides from users by default.
_QUIET = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """No test leaves anything in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Runs the command in this process: ``run_cli("data", "list")`` gives (exit code, stdout, stderr)."""

    def show(message, category, *_, **__):
        # pytest would swallow warnings, which a user sees on stderr.
        sys.stderr.write(f"{category.__name__}: {message}\n")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fimp", *map(str, arguments)])
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            for category in _QUIET:
                warnings.simplefilter("ignore", category)
            warnings.showwarning = show
            try:
                main()
                code = 0
            except SystemExit as error:
                code = error.code or 0
        return Outcome(code, *capsys.readouterr())

    return run


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
