"""What tests of several processes run in each: trains models on simulated cells, and writes how it went."""

import json
import sys
from pathlib import Path

from fimp.data import CellOptions, load_cells, simulate
from fimp.models import resolve
from fimp.tasks import CellTypeTask, ExpressionTask
from fimp.train import TrainOptions, evaluate, fit, processes

#: Dropout draws other numbers in every process, so that only without it losses can be the same.
PLAIN = {"dim": 16, "dropout": 0.0, "attention_dropout": 0.0}


class KilledError(RuntimeError):
    """Stands for a kill."""


def killed_half_way(share, text):
    if share > 0.5:
        raise KilledError


def train(folder, name, batch_size, **changes):
    tissue = simulate.tissue(n_cells=156, n_genes=20, n_pairs=4, seed=1)
    cells = load_cells(tissue, CellOptions(label="cell_type"))
    name = name.removeprefix("cut:")
    kind = CellTypeTask if name.startswith("type:") else ExpressionTask
    task = kind(cells, seed=3)
    choice = resolve(name.removeprefix("type:"), **{**PLAIN, **changes})
    options = TrainOptions(epochs=4, batch_size=batch_size, device="cpu", patience=3)
    if "cut" in folder.name:
        try:
            fit(task, choice, options, folder, listener=killed_half_way)
        except KilledError:
            pass
        else:
            raise AssertionError("the run was not cut")
    fitted = fit(task, choice, options, folder, resume=True)
    scores = evaluate(task, choice, fitted.network, task.split["test"], options)
    return {"scores": scores, "steps": fitted.steps, "train": len(task.split["train"])}


if __name__ == "__main__":
    processes.start()
    folder, batch_size, *names = sys.argv[1:]
    found = {name: train(Path(folder) / name.replace(":", "-"), name, int(batch_size)) for name in names}
    (Path(folder) / f"{processes.rank()}.json").write_text(json.dumps(found))
