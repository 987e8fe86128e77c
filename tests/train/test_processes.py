import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fimp.train import processes
from fimp.train.callbacks import read_metrics

SCRIPT = Path(__file__).with_name("together.py")
_spec = importlib.util.spec_from_file_location("together", SCRIPT)
together = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(together)

#: Seeds per process, such that one seed of the training part is left over.
BATCH = 18
NAMES = ["mlp", "fimp-base", "type:fimp-base", "type:gat"]


def torchrun(*arguments, check=True):
    """Run a command in two processes that find each other at a free port."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    torchrun(SCRIPT, folder, BATCH, *NAMES)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_train_as_one_with_twice_the_batch(two, tmp_path, name):
    """Also where the last batch of an epoch leaves one of them without seeds."""
    wanted = together.train(tmp_path, name, 2 * BATCH)
    assert wanted["train"] % (2 * BATCH) == 1
    found = [json.loads((two / f"{rank}.json").read_text())[name] for rank in range(2)]
    assert found[0] == found[1]
    assert found[0]["steps"] == wanted["steps"]
    assert found[0]["scores"] == pytest.approx(wanted["scores"], abs=1e-5)
    losses = [
        [float(row["train_loss"]) for row in read_metrics(folder / "metrics.csv")]
        for folder in (tmp_path, two / name.replace(":", "-"))
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert len(losses[0]) >= 4


def test_one_process_is_alone_and_leads():
    assert (processes.count(), processes.rank(), processes.leads(), processes.launched()) == (1, 0, True, False)
    assert processes.of_first("x") == "x"
    assert processes.in_turn([1, 2]) == [1, 2]
