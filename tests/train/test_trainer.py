import os
import signal

import pytest

from fimp.data import load_cells, simulate
from fimp.models import resolve
from fimp.tasks import ExpressionTask
from fimp.train import TrainOptions, fit
from fimp.train.callbacks import read_metrics


def test_an_interrupt_that_somebody_swallows_still_ends_training(tmp_path):
    def swallowing(share, text):
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)

    task = ExpressionTask(load_cells(simulate.tissue(n_cells=150, n_genes=10, n_pairs=1, seed=1)))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(task, resolve("mlp"), TrainOptions(epochs=30, device="cpu"), tmp_path, listener=swallowing)
    assert len(read_metrics(tmp_path / "metrics.csv")) < 3
    assert signal.getsignal(signal.SIGINT) is before
