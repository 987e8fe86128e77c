import pytest
import torch

from fimp.data import load_cells, simulate
from fimp.models import resolve
from fimp.tasks import ExpressionOptions, ExpressionTask
from fimp.train import TrainOptions, fit
from fimp.train.callbacks import read_metrics
from fimp.train.checkpoint import load_tree
from fimp.train.pretrain import Pretraining, pretrain

CHOICE = resolve("graphmae", dim=16)
PLAN = Pretraining("cpu", 16, epochs=5, batch_size=32)


@pytest.fixture(scope="module")
def task():
    return ExpressionTask(
        load_cells(simulate.tissue(n_cells=150, n_genes=20, n_pairs=4, seed=1)), ExpressionOptions(members=1), seed=3
    )


def network(task):
    torch.manual_seed(0)
    return task.network(CHOICE)


def weights(built):
    return {key: value.clone() for key, value in built.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


def test_the_loss_falls_and_the_head_stays(task, tmp_path):
    built = network(task)
    before = weights(built)
    result = pretrain(built, task, CHOICE, tmp_path, Pretraining("cpu", 16, epochs=30, batch_size=32))
    losses = [float(row["pretraining_loss"]) for row in read_metrics(tmp_path / "pretraining.csv")]
    assert len(losses) == 30
    assert result.steps == 30 * 5
    assert losses[-1] < 0.8 * losses[0]
    after = weights(built)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert not {key for key in changed if not key.startswith("model.")}
    assert all(key in changed for key in before if key.startswith("model.encoder.convs"))


@pytest.mark.parametrize("share", [0.15, 0.3, 0.45])
def test_a_killed_phase_ends_with_the_weights_of_one_that_was_not(task, tmp_path, share):
    class Killed(RuntimeError):
        pass

    def listener(done, text):
        assert text.startswith("pretraining, epoch")
        if done >= share:
            raise Killed

    whole, cut, resumed = network(task), network(task), network(task)
    pretrain(whole, task, CHOICE, tmp_path / "whole", PLAN)
    with pytest.raises(Killed):
        pretrain(cut, task, CHOICE, tmp_path / "cut", PLAN, listener=listener)
    result = pretrain(resumed, task, CHOICE, tmp_path / "cut", PLAN, resume=True)
    assert same(weights(resumed), weights(whole))
    assert result.steps == 25
    assert read_metrics(tmp_path / "cut" / "pretraining.csv") == read_metrics(tmp_path / "whole" / "pretraining.csv")


def test_a_finished_phase_is_taken_as_it_is(task, tmp_path):
    first, second = network(task), network(task)
    result = pretrain(first, task, CHOICE, tmp_path, PLAN)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["pretrained.safetensors"]
    assert pretrain(second, task, CHOICE, tmp_path, PLAN, resume=True) == result
    assert same(weights(first), weights(second))


def test_fewer_steps_are_another_schedule(task, tmp_path):
    built = network(task)
    plan = Pretraining("cpu", 16, epochs=5, batch_size=32, steps=7)
    assert pretrain(built, task, CHOICE, tmp_path, plan).steps == 7
    assert load_tree(tmp_path / "checkpoints" / "pretrained.safetensors")["steps"] == 7


def test_only_models_that_pretrain_are_pretrained(task, tmp_path):
    options = TrainOptions(epochs=2, batch_size=32, device="cpu")
    assert fit(task, resolve("gat", dim=16), options, tmp_path / "gat").pretraining_steps == 0
    assert not (tmp_path / "gat" / "pretraining.csv").exists()
    fitted = fit(task, CHOICE, options, tmp_path / "graphmae")
    assert (fitted.pretraining_steps, fitted.steps) == (2 * 5, 2 * 4)
    rows = read_metrics(tmp_path / "graphmae" / "metrics.csv")
    assert [int(row["epoch"]) for row in rows] == [0, 1]
    assert "pretraining_loss" not in rows[0]


def test_a_comparison_keeps_what_repeats_both_phases_and_nothing_more(run_cli, tmp_path):
    data, out = tmp_path / "tissue.h5ad", tmp_path / "out"
    simulate.tissue(n_cells=150, n_genes=18, n_pairs=4).write_h5ad(data)
    code, _, err = run_cli(
        "compare", "expression", "--data", data, "--models", "graphmae", "--seeds", 1, "--batch-size", 64,
        "--device", "cpu", "--epochs", 100_000, "--max-minutes", 0.12, "--out", out,
    )  # fmt: skip
    assert (code, err) == (0, "")
    folder = out / "runs" / "graphmae" / "seed0"
    names = {"config.yaml", "metrics.csv", "pretraining.csv", "checkpoints", "results.json", "statistics.safetensors"}
    assert {path.name for path in folder.iterdir()} == names
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["best.safetensors"]
    code, text, _ = run_cli("repeat", folder)
    assert (code, "identical to the digit" in text) == (0, True)
