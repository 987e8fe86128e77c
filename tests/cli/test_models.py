import json
import re
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not here")


def fields(out):
    return dict(re.findall(r"^  (\w+)\s+(.*)$", out, re.MULTILINE))


@pytest.fixture
def folder(tmp_path):
    if not GOLDEN.exists():
        pytest.skip("golden files are not here")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((GOLDEN / "hf_vit" / "checkpoint" / name).read_bytes())
    return tmp_path


def test_list_names_every_model_and_family(run_cli, monkeypatch):
    from fimp.foundation import FAMILIES
    from fimp.models import known_models

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    code, out, err = run_cli("models", "list")
    assert (code, err) == (0, "")
    for item in (*known_models().values(), *FAMILIES.values()):
        line = next(line for line in out.splitlines() if f" {item.name} " in line)
        assert item.description in line
    assert {"brainlm", "geneformer", "scgpt", "vit"} <= FAMILIES.keys()


@needs_golden
@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("hf_vit/checkpoint", {"family": "vit", "layers": "2", "width": "32", "heads": "4", "vocabulary": "none"}),
        ("scgpt/checkpoint", {"family": "scgpt", "layers": "3", "width": "32", "vocabulary": "43 tokens"}),
        ("scgpt/checkpoint_flash", {"family": "scgpt", "layers": "3", "width": "32", "vocabulary": "43 tokens"}),
        ("hf_geneformer/checkpoint", {"family": "geneformer", "layers": "2", "vocabulary": "60 tokens"}),
        ("hf_geneformer/checkpoint_legacy", {"family": "geneformer", "layers": "2", "vocabulary": "60 tokens"}),
        ("brainlm/checkpoint_exact", {"family": "brainlm", "layers": "2", "width": "16", "heads": "4"}),
        ("brainlm/checkpoint_nystrom", {"family": "brainlm", "layers": "2", "width": "12", "heads": "4"}),
    ],
)
def test_info_shows_what_a_folder_holds(run_cli, where, wanted):
    code, out, err = run_cli("models", "info", GOLDEN / where)
    assert (code, err) == (0, "")
    assert out.startswith(f"{GOLDEN / where}\n")
    assert fields(out).items() >= {**wanted, "licence": "not stated"}.items()


def test_info_counts_every_weight(run_cli, folder):
    from safetensors.numpy import load_file

    total = sum(np.size(value) for value in load_file(folder / "model.safetensors").values())
    assert fields(run_cli("models", "info", folder).out)["parameters"] == f"{total:,}"


def test_info_finds_the_licence_where_a_folder_states_it(run_cli, folder):
    def licence():
        return fields(run_cli("models", "info", folder).out)["licence"]

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "license": "bsd-3-clause"}))
    assert licence() == "bsd-3-clause"
    (folder / "LICENSE").write_text("\n  Apache License\n  Version 2.0\n")
    assert licence() == "Apache License"
    # Only the head counts, not what the text says.
    (folder / "README.md").write_text("---\ntags:\n- vision\n---\nModel\n\nlicense: to be decided\n")
    assert licence() == "Apache License"
    (folder / "README.md").write_text("---\ntags:\n- vision\nlicense: 'mit'\n---\n# Model\n")
    assert licence() == "mit"


def broken_config(folder):
    (folder / "config.json").write_text('{"model_type": "vit",')


def config_of_another_kind(folder):
    (folder / "config.json").write_text('{"model_type": "gpt2"}')


def truncated(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def truncated_pickle(folder):
    no_weights(folder)
    whole = (GOLDEN / "brainlm" / "checkpoint_exact" / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(whole[:1000])


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (broken_config, "config.json"),
        (config_of_another_kind, "gpt2"),
        (truncated, "model.safetensors"),
        (no_weights, "model.safetensors"),
        (truncated_pickle, "pytorch_model.bin"),
        (empty, ""),
    ],
)
def test_info_of_a_bad_folder_is_one_line(run_cli, folder, damage, named):
    damage(folder)
    code, out, err = run_cli("models", "info", folder)
    assert (code, out) == (2, "")
    assert err.startswith("fimp: error: ")
    assert err.count("\n") == 1
    assert str(folder) in err
    assert named in err


@pytest.mark.parametrize("path", ["nowhere", "file"])
def test_info_of_what_is_no_folder_is_one_line(run_cli, tmp_path, path):
    (tmp_path / "file").write_text("")
    code, out, err = run_cli("models", "info", tmp_path / path)
    assert (code, out) == (2, "")
    assert err.startswith(f"fimp: error: {tmp_path / path}: ")
    assert err.count("\n") == 1
