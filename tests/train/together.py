"""What tests of several processes run in each: trains models on simulated cells, and writes how it went.

Before the name of a model may stand: ``type:`` for another task; ``shard:`` shares weights out; ``cut:`` kills the run
half way and goes on; ``left:`` does not go on; ``uneven:`` lets all processes but the first compute layers anew in the
backward pass.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from fimp.data import CellOptions, load_cells, simulate
from fimp.models import resolve
from fimp.nn import foundation_message
from fimp.tasks import CellTypeTask, ExpressionTask
from fimp.train import TrainOptions, evaluate, fit, processes

#: Dropout and isolation draw other numbers in every process, so that only without them losses can be the same.
PLAIN = {"dim": 16, "dropout": 0.0, "attention_dropout": 0.0, "isolation": 0.0}
FLAGS = ("type", "shard", "cut", "left", "uneven")


class KilledError(RuntimeError):
    """Stands for a kill."""


def killed_half_way(share, text):
    if share > 0.5:
        raise KilledError


def torchrun(*arguments, check=True):
    """Run a command in two processes that find each other at a free port."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


def tissue():
    cells = simulate.tissue(n_cells=156, n_genes=20, n_pairs=4, seed=1)
    return load_cells(cells, CellOptions(label="cell_type"))


def folder_of(name):
    return name.replace(":", "-").replace("/", "_")


def train(folder, name, batch_size, epochs):
    flags = set()
    while (first := name.partition(":")[0]) in FLAGS:
        flags.add(first)
        name = name.removeprefix(f"{first}:")
    kind = CellTypeTask if "type" in flags else ExpressionTask
    task, choice = kind(tissue(), seed=3), resolve(name, **PLAIN)
    options = TrainOptions(epochs=epochs, batch_size=batch_size, device="cpu", patience=3, shard="shard" in flags)
    kept = foundation_message._NUMBERS_KEPT["cpu"]
    if "uneven" in flags and not processes.leads():
        foundation_message._NUMBERS_KEPT["cpu"] = 0
    if flags & {"cut", "left"}:
        try:
            fit(task, choice, options, folder, listener=killed_half_way)
        except KilledError:
            pass
        else:
            raise AssertionError("the run was not cut")
    if "left" in flags:
        return None
    fitted = fit(task, choice, options, folder, resume=True)
    foundation_message._NUMBERS_KEPT["cpu"] = kept
    scores = evaluate(task, choice, fitted.network, task.split["test"], options)
    return {"scores": scores, "steps": fitted.steps, "train": len(task.split["train"])}


if __name__ == "__main__":
    processes.start()
    folder, batch_size, epochs, *names = sys.argv[1:]
    found = {name: train(Path(folder) / folder_of(name), name, int(batch_size), int(epochs)) for name in names}
    (Path(folder) / f"{processes.rank()}.json").write_text(json.dumps(found))
