import json
import os

import pytest
import torch
from safetensors.torch import save_file

from fimp.errors import FIMPError
from fimp.foundation.hf import Settings, model_type, naming, read_json, read_weights

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(2)}


def same(state):
    return state.keys() == STATE.keys() and all(torch.equal(state[key], STATE[key]) for key in STATE)


def shards(folder, save, suffix, index):
    save({"a.weight": STATE["a.weight"]}, folder / f"one{suffix}")
    save({"b": STATE["b"]}, folder / f"two{suffix}")
    where = {"a.weight": f"one{suffix}", "b": f"two{suffix}"}
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": where}))


def test_every_layout_of_weights_gives_the_same(tmp_path):
    for layout in range(4):
        folder = tmp_path / str(layout)
        folder.mkdir()
        if layout == 0:
            save_file(STATE, folder / "model.safetensors")
        elif layout == 1:
            torch.save(STATE, folder / "pytorch_model.bin")
        elif layout == 2:
            shards(folder, save_file, ".safetensors", "model.safetensors.index.json")
        else:
            shards(folder, torch.save, ".bin", "pytorch_model.bin.index.json")
        state, path = read_weights(folder)
        assert same(state)
        assert path.parent == folder


def test_safetensors_win_over_pickles(tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    torch.save({"other": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert same(read_weights(tmp_path)[0])


class Attack:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Attack()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(FIMPError, match=r"pytorch_model\.bin: .*not loaded") as caught:
        read_weights(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_every_truncation_is_one_line(tmp_path, name):
    path = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(STATE, path)
    whole = path.read_bytes()
    for size in (0, 1, 7, 8, 9, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FIMPError, match=name) as caught:
            read_weights(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[torch.ones(1)], {"a": 3}, {1: torch.ones(1)}, {"a": {"b": torch.ones(1)}}])
def test_anything_but_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(FIMPError, match=r"pytorch_model\.bin: .*state dict"):
        read_weights(tmp_path)


def test_an_index_must_name_files_beside_it_that_hold_what_it_says(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    save_file(STATE, tmp_path / "one.safetensors")
    for weight_map, wanted in [
        ({"a.weight": "../one.safetensors"}, "beside it"),
        ({"a.weight": "absent.safetensors"}, r"absent\.safetensors: missing"),
        ({"c": "one.safetensors"}, "tensor 'c'"),
        ({"c": 1}, "weight_map"),
        ({}, "weight_map"),
    ]:
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(FIMPError, match=wanted):
            read_weights(tmp_path)


def test_a_folder_without_weights_says_what_it_looked_for(tmp_path):
    with pytest.raises(FIMPError, match=r"no weights; wanted one of model\.safetensors"):
        read_weights(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "\udcff", "[" * 100_000])
def test_broken_json_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(FIMPError, match=r"config\.json: ") as caught:
        model_type(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(FIMPError, match=r"absent\.json: "):
        read_json(tmp_path / "absent.json")


def test_model_type(tmp_path):
    assert model_type(tmp_path) is None
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    assert model_type(tmp_path) == "vit"
    (tmp_path / "config.json").write_text('{"model_type": 3}')
    assert model_type(tmp_path) is None


def test_settings_are_checked_by_type(tmp_path):
    settings = Settings({"n": 3, "x": 0.5, "flag": True, "name": "a", "size": [2, 3]}, tmp_path / "config.json")
    assert (settings.get("n", int), settings.get("n", float), settings.get("x", float)) == (3, 3.0, 0.5)
    assert (settings.get("flag", bool), settings.get("absent", str, "b")) == (True, "b")
    assert (settings.pair("n", 1), settings.pair("size", 1), settings.pair("absent", 4)) == ((3, 3), (2, 3), (4, 4))
    for name, kind in [("flag", int), ("x", int), ("n", bool), ("name", float), ("absent", str), ("size", int)]:
        with pytest.raises(FIMPError, match=rf"config\.json: '{name}' is "):
            settings.get(name, kind)
    for value in (float("nan"), float("inf"), 2**31, 10**30):
        with pytest.raises(FIMPError, match="'n' is"):
            Settings({"n": value}, settings.path).get("n", float if isinstance(value, float) else int)
    for wrong in (0, -1, True, 10**30, [1], [1, 2, 3], [1, "2"], "3", {"height": 3}):
        with pytest.raises(FIMPError, match="positive whole numbers"):
            Settings({"size": wrong}, settings.path).pair("size", 1)


def test_errors_name_a_file_once(tmp_path):
    path = tmp_path / "config.json"
    for message, wanted in [("wrong", f"{path}: wrong"), (f"{tmp_path / 'other.json'}: wrong",) * 2]:
        with pytest.raises(FIMPError) as caught, naming(path):
            raise FIMPError(message)
        assert str(caught.value) == wanted
    with pytest.raises(FIMPError, match=f"^{path}: "), naming(path):
        torch.empty(10**15)
