import dataclasses
import gc
import time
import weakref

import numpy as np
import pytest
import torch

from fimp.data import load_cells, simulate
from fimp.errors import FIMPError
from fimp.foundation.scgpt_files import new_scgpt, save_scgpt
from fimp.models import resolve
from fimp.tasks import ExpressionOptions, ExpressionTask
from fimp.train import TrainOptions, evaluate, fit
from fimp.train.callbacks import read_metrics


@pytest.fixture(scope="module")
def task():
    return ExpressionTask(
        load_cells(simulate.tissue(n_cells=150, n_genes=20, n_pairs=4, seed=1)), ExpressionOptions(members=1), seed=3
    )


OPTIONS = TrainOptions(epochs=6, batch_size=32, device="cpu")


def outcome(task, choice, fitted, options=OPTIONS):
    return evaluate(task, choice, fitted.network, task.split["test"], options), fitted.steps, fitted.epochs


@pytest.mark.parametrize("name", ["mlp", "gcn", "sage", "gat", "gin", "gps", "graphmae", "fimp-base"])
def test_a_seed_repeats_a_run_to_the_digit(task, name):
    choice = resolve(name, dim=16)
    first = outcome(task, choice, fit(task, choice, OPTIONS))
    torch.rand(17)  # whatever else used the global generator
    assert outcome(task, choice, fit(task, choice, OPTIONS)) == first


@pytest.fixture(scope="module")
def checkpoint(task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "scgpt"
    torch.manual_seed(0)
    save_scgpt(new_scgpt(task.data.gene_names, dim=16, layers=2, heads=2, hidden=16), folder)
    return folder


@pytest.mark.parametrize(
    "name", ["mlp", "gcn", "gat", "gin", "gps", "graphmae", "fimp-base", "fimp:{},weights=none", "fm:{},weights=none"]
)
def test_bfloat16_trains_every_kind_of_model_to_nearly_the_same(task, checkpoint, tmp_path, name):
    choice = resolve(name.format(checkpoint), **({"dim": 16} if "{" not in name else {}))
    half = dataclasses.replace(OPTIONS, precision="bf16")
    fitted = [fit(task, choice, options, tmp_path / options.precision) for options in (OPTIONS, half)]
    assert {parameter.dtype for parameter in fitted[1].network.parameters()} == {torch.float32}
    whole, cut = (outcome(task, choice, *pair)[0] for pair in zip(fitted, (OPTIONS, half), strict=True))
    assert cut["r2"] == pytest.approx(whole["r2"], abs=0.02)
    rows = [read_metrics(tmp_path / options.precision / "metrics.csv") for options in (OPTIONS, half)]
    assert rows[0] != rows[1]


class Killed(RuntimeError):
    """Stands for a kill: Lightning gets no chance to tidy up the run."""


@pytest.mark.parametrize("name", ["mlp", "fimp-base", "graphmae"])
@pytest.mark.parametrize("share", [0.2, 0.55, 0.9])
def test_a_killed_run_ends_with_the_numbers_of_one_that_was_not(task, tmp_path, name, share, monkeypatch):
    choice = resolve(name, dim=16)
    whole = fit(task, choice, OPTIONS, tmp_path / "whole")

    def listener(done, text):
        if done >= share:
            raise Killed

    with pytest.raises(Killed):
        fit(task, choice, OPTIONS, tmp_path / "cut", listener=listener)
    resumed = fit(task, choice, OPTIONS, tmp_path / "cut", resume=True)
    assert outcome(task, choice, resumed) == outcome(task, choice, whole)
    rows = [read_metrics(tmp_path / folder / "metrics.csv") for folder in ("whole", "cut")]
    assert rows[0] == rows[1]
    assert [int(row["epoch"]) for row in rows[0]] == list(range(6))


@pytest.mark.parametrize("patience", [15, 2])
def test_a_run_that_is_resumed_after_its_last_step_ends_the_same(task, tmp_path, patience):
    choice, options = resolve("mlp", dim=16), dataclasses.replace(OPTIONS, epochs=12, patience=patience)
    whole = fit(task, choice, options, tmp_path / "run")
    again = fit(task, choice, options, tmp_path / "run", resume=True)
    assert outcome(task, choice, again, options) == outcome(task, choice, whole, options)


def test_a_run_cut_by_its_budget_repeats_from_what_it_stored(task, monkeypatch):
    choice = resolve("mlp", dim=16)
    options = dataclasses.replace(OPTIONS, epochs=4000, patience=10**6)
    cut = fit(task, choice, options, budget_seconds=2.0)
    assert 0 < cut.steps <= cut.planned_steps
    assert cut.steps < 4000 * 4
    again = fit(task, choice, options, planned_steps=cut.planned_steps, stop_after=cut.steps)
    assert outcome(task, choice, again) == outcome(task, choice, cut)


def test_a_budget_is_shared_by_both_phases_and_the_run_repeats(task):
    choice = resolve("graphmae", dim=16)
    options = dataclasses.replace(OPTIONS, epochs=4000, patience=10**6)
    begun = time.monotonic()
    cut = fit(task, choice, options, budget_seconds=8.0)
    assert time.monotonic() - begun < 8.0 + 4.0
    assert 0 < cut.pretraining_steps < 4000 * 5
    assert 0 < cut.steps <= cut.planned_steps
    assert cut.steps < 4000 * 4
    again = fit(
        task, choice, options, planned_steps=cut.planned_steps, stop_after=cut.steps,
        pretraining_steps=cut.pretraining_steps,
    )  # fmt: skip
    assert again.pretraining_steps == cut.pretraining_steps
    assert outcome(task, choice, again) == outcome(task, choice, cut)


def test_training_learns():
    task = ExpressionTask(
        load_cells(simulate.tissue(n_cells=400, n_genes=20, n_pairs=4, seed=1)), ExpressionOptions(members=1), seed=3
    )
    choice = resolve("mlp", dim=64, lr=3e-3)
    fitted = fit(task, choice, TrainOptions(epochs=40, batch_size=32, device="cpu"))
    untrained = fit(task, choice, TrainOptions(epochs=0, device="cpu"))
    assert outcome(task, choice, fitted)[0]["r2"] > outcome(task, choice, untrained)[0]["r2"] + 0.05


def test_the_best_validation_is_kept(task, tmp_path):
    choice = resolve("mlp", dim=64, lr=3e-2, dropout=0.0)
    options = TrainOptions(epochs=60, batch_size=32, patience=100, device="cpu")
    fitted = fit(task, choice, options, tmp_path)
    scores = [float(row["val_r2"]) for row in read_metrics(tmp_path / "metrics.csv") if row.get("val_r2")]
    kept = evaluate(task, choice, fitted.network, task.split["val"], options)["r2"]
    assert kept >= max(scores) - 1e-5


def test_early_stopping_ends_a_run_that_does_not_improve(task):
    choice = resolve("mlp", dim=64, lr=3e-2, dropout=0.0)
    fitted = fit(task, choice, TrainOptions(epochs=400, batch_size=32, patience=2, device="cpu"))
    assert fitted.epochs < 400


def test_models_without_parameters_and_zero_epochs_train_nothing(task):
    for name, epochs in (("mean", 5), ("gcn", 0)):
        choice = resolve(name)
        fitted = fit(task, choice, TrainOptions(epochs=epochs, device="cpu"))
        assert fitted.steps == fitted.epochs == 0
        assert evaluate(task, choice, fitted.network, task.split["test"], OPTIONS)["mse"] > 0


def test_batch_size_larger_than_the_data_is_legal(task):
    choice = resolve("mlp", dim=8)
    assert fit(task, choice, TrainOptions(epochs=2, batch_size=10_000, device="cpu")).steps == 2


def test_listener_hears_progress(task):
    heard = []
    fit(task, resolve("mlp", dim=8), OPTIONS, listener=lambda share, text: heard.append((share, text)))
    shares = [share for share, _ in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert "validation r2" in heard[-1][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "--epochs: -1"),
        ({"batch_size": 0}, "--batch-size: 0"),
        ({"device": "tpu"}, "--device: 'tpu'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(FIMPError, match=message):
        TrainOptions(**options)


def test_evaluation_holds_the_inputs_of_one_batch_at_a_time(monkeypatch):
    task = ExpressionTask(load_cells(simulate.tissue(n_cells=1100, n_genes=18, n_pairs=4, seed=2)), seed=1)
    choice, made, alive = resolve("gcn", dim=16), [], []
    inputs = task.inputs

    def counted(nodes, epoch):
        gc.collect()
        alive.append(sum(reference() is not None for reference in made))
        out = inputs(nodes, epoch)
        made.append(weakref.ref(out.values))
        return out

    monkeypatch.setattr(task, "inputs", counted)
    evaluate(task, choice, task.network(choice), np.arange(1100), OPTIONS)
    assert len(made) == 5
    # The loader makes a batch while the one before is still in the hands of the caller.
    assert max(alive) <= 1
