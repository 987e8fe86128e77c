import json

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from fimp.data import write_nodes
from fimp.data.splits import random_split
from fimp.train.runs import RunConfig


@pytest.fixture
def graph_file(tmp_path):
    """40 nodes in a ring, two classes, three splits."""
    generator = torch.Generator().manual_seed(0)
    ring, y = torch.arange(40), torch.arange(40) // 20
    part = torch.stack([torch.randperm(40, generator=generator) % 4 for _ in range(3)])
    data = Data(
        x=(torch.rand(40, 9, generator=generator) < 0.3).float(),
        edge_index=torch.stack([ring, ring.roll(1)]),
        y=y,
        train_mask=part < 2,
        val_mask=part == 2,
        test_mask=part == 3,
    )
    write_nodes(tmp_path / "graph.npz", data)
    return tmp_path / "graph.npz"


def compare(run_cli, source, out, *more):
    common = ["--jobs", 1, "--epochs", 2, "--device", "cpu", "--out", out]
    return run_cli("compare", "node", "--data", source, "--models", "mean,mlp,gcn,fimp-base", *common, *more)


@pytest.mark.parametrize("tokenizer", ["features", "grouped"])
def test_a_comparison_ends_in_results(run_cli, graph_file, tmp_path, tokenizer):
    out = tmp_path / "out"
    outcome = compare(run_cli, graph_file, out, "--seeds", 2, "--undirected", "--tokenizer", tokenizer)
    assert (outcome.code, outcome.err) == (0, "")
    assert "3 published splits (20/10/10 nodes in the first): seed k uses split k mod 3" in outcome.out
    results = json.loads((out / "results.json").read_text())
    assert results["task"] == "node"
    assert results["monitor"] == "roc_auc"
    assert results["data"].items() >= {"n_nodes": 40, "n_edges": 80, "n_features": 9}.items()
    assert [row["model"] for row in results["summary"]] == ["mean", "mlp", "gcn", "fimp-base"]
    for run in results["runs"]:
        assert set(run["metrics"]) == {"accuracy", "f1", "f1_macro", "roc_auc"}
        assert np.isfinite([*run["metrics"].values()]).all()
    stored = RunConfig.load(out / "runs" / "fimp-base" / "seed1")
    assert stored.options.tokenizer == tokenizer
    assert stored.data.undirected


def test_the_same_command_gives_the_same_numbers(run_cli, graph_file, tmp_path):
    found = []
    for name in ("a", "b"):
        assert compare(run_cli, graph_file, tmp_path / name, "--seeds", 1).code == 0
        runs = json.loads((tmp_path / name / "results.json").read_text())["runs"]
        found.append([run["metrics"] for run in runs])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("source", "more", "words"),
    [
        ("absent.npz", [], "absent.npz: no such file"),
        (" ", [], "--data: empty"),
        (None, ["--tokens", 0], "--tokens: 0 is below 1"),
        (None, ["--tokenizer", "words"], "--tokenizer: 'words' is unknown"),
    ],
)
def test_bad_input_is_one_line(run_cli, graph_file, tmp_path, source, more, words):
    outcome = compare(run_cli, source or graph_file, tmp_path / "out", *more)
    assert outcome.code == 2
    assert outcome.err.startswith("fimp: error: ")
    assert outcome.err.count("\n") == 1
    assert words in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_split_of_any_seed_that_cannot_be_scored_is_refused_before_training(run_cli, tmp_path):
    # Labels of which seed 0 puts both classes into training and validation, and seed 1 does not.
    rng, n = np.random.default_rng(0), 40
    (train, val, _), (_, lacking, _) = (random_split(n, seed) for seed in (0, 1))
    y = np.zeros(n, dtype=np.int64)
    y[np.setdiff1d(train, lacking)[:4]] = y[np.setdiff1d(val, lacking)[0]] = 1
    np.savez(tmp_path / "g.npz", x=rng.normal(size=(n, 4)), edge_index=np.stack([np.arange(n), np.arange(n) ^ 1]), y=y)
    arguments = ["compare", "node", "--data", tmp_path / "g.npz", "--models", "mlp", "--epochs", 1, "--jobs", 1]
    assert run_cli(*arguments, "--seeds", 1, "--out", tmp_path / "one")[0] == 0
    code, _, err = run_cli(*arguments, "--seeds", 2, "--out", tmp_path / "two")
    assert code == 2
    assert "part of seed 1 has nodes of class 0 only" in err
    assert not (tmp_path / "two").exists()
