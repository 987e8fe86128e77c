"""Memory of processes that train a model together, with copies of its weights and with weights shared out.

    python benchmarks/sharding.py --dim 768 --hidden 3072 --layers 8

Makes a new model in scGPT's layout and a simulated tissue in a temporary folder, trains ``fimp:FOLDER`` for a few steps
in two processes on the CPU, each way in processes of its own, and prints a table: what each process needed beyond what
it held before there was a model, in MB and in bytes per weight of the model's layers.

- start: building the model, scoring it before training, and the first step;
- steps: the other training steps;
- end: from the second step on, with a validation, writing checkpoints and choosing the best weights.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PROCESSES, STEPS, BATCH = 2, 4, 4
#: Name, further options of the model, and whether weights are shared out.
WAYS = (("copies", "", False), ("shared out", "", True), ("shared out", ",aggregate=final", True))


def measure(folder: Path, name: str, shard: bool) -> None:
    """Train in this process and its companions, and print peaks of all as a line of JSON."""
    import torch

    from fimp.data import load_cells
    from fimp.models import resolve
    from fimp.tasks import ExpressionOptions, ExpressionTask
    from fimp.train import TrainOptions, fit, processes
    from fimp.train.peak_memory import peak_memory_mb, reset_peak_memory

    processes.start()
    task = ExpressionTask(load_cells(folder / "tissue.h5ad"), ExpressionOptions(tokens=16), seed=0)
    # What libraries allocate once belongs to what was there before.
    warm = torch.nn.Linear(8, 8)
    warm(torch.ones(1, 8)).sum().backward()
    reset_peak_memory()
    before, peaks = peak_memory_mb(), {}
    step = 0

    def listener(share: float, text: str) -> None:
        nonlocal step
        step += 1
        if step == 1:
            peaks["start"] = peak_memory_mb()
            reset_peak_memory()
        peaks["steps"] = peak_memory_mb()

    options = TrainOptions(epochs=1, batch_size=BATCH, fanout=2, device="cpu", shard=shard)
    fitted = fit(task, resolve(name), options, listener=listener)
    assert fitted.steps == STEPS
    peaks["end"] = peak_memory_mb()
    added = {part: peak - before for part, peak in peaks.items()}
    every = processes.in_turn([added])
    if processes.leads():
        sys.stdout.write(json.dumps(every) + "\n")


def prepare(folder: Path, sizes: dict[str, int]) -> int:
    """Write a tissue and a model; returns the number of weights in the model's layers."""
    import torch

    from fimp.data import load_cells, simulate
    from fimp.foundation.scgpt_files import new_scgpt, save_scgpt

    simulate.tissue(n_cells=46, n_genes=20, n_pairs=4).write_h5ad(folder / "tissue.h5ad")
    torch.manual_seed(0)
    model = new_scgpt(load_cells(folder / "tissue.h5ad").gene_names, **sizes)
    save_scgpt(model, folder / "model")
    return sum(weight.numel() for weight in model.stack.parameters())


def together(*arguments: str) -> Any:
    """What :func:`measure` prints in processes of its own."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(PROCESSES),
        __file__,
    ]
    # Freed memory goes back to the system at once, so that peaks are those of what is in use.
    settings = {"OMP_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run([*command, *arguments], env={**os.environ, **settings}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[{")))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("dim", 768), ("hidden", 3072), ("layers", 8), ("heads", 12)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        folder, name, shard = given.measure
        measure(Path(folder), name, shard == "True")
        return
    sizes = {name: getattr(given, name) for name in ("dim", "hidden", "layers", "heads")}
    with tempfile.TemporaryDirectory() as temporary:
        weights = prepare(Path(temporary), sizes)
        sys.stdout.write(
            f"{weights / 1e6:.1f} million weights in layers, {PROCESSES} processes, {STEPS} steps of {BATCH} seeds\n\n"
            "| weights | process | start, MB | steps, MB | end, MB | steps, bytes per weight |\n"
            f"| --- |{' --- |' * 5}\n"
        )
        for way, more, shard in WAYS:
            every = together("--measure", temporary, f"fimp:{temporary}/model{more}", str(shard))
            for rank, peaks in enumerate(every):
                columns = [f"{peaks[part]:,.0f}" for part in ("start", "steps", "end")]
                columns.append(f"{peaks['steps'] * 2**20 / weights:.1f}")
                sys.stdout.write(f"| {way}{more.replace(',', ', ')} | {rank} | {' | '.join(columns)} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
