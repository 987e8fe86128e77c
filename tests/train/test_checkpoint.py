import pickle

import pytest
import torch

from fimp.errors import FIMPError
from fimp.train.checkpoint import SafeCheckpointIO, load_tree, load_weights, save_tree


def test_a_nested_structure_comes_back(tmp_path):
    tree = {
        "a": torch.arange(3),
        "b": [1, 2.5, None, "x", {"c": torch.zeros(0)}],
        "state": {0: {"step": torch.tensor(3.0)}},
    }
    save_tree(tree, tmp_path / "t.safetensors")
    back = load_tree(tmp_path / "t.safetensors")
    assert torch.equal(back["a"], tree["a"])
    assert back["b"][:4] == tree["b"][:4]
    assert back["b"][4]["c"].shape == (0,)
    assert back["state"][0]["step"] == 3.0


def test_shared_and_strided_tensors_are_stored_whole(tmp_path):
    base = torch.arange(6.0).view(2, 3)
    save_tree({"a": base, "b": base.t()}, tmp_path / "t.safetensors")
    assert torch.equal(load_tree(tmp_path / "t.safetensors")["b"], base.t())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "t.safetensors"
    save_tree({"a": torch.ones(1)}, path)
    with pytest.raises(TypeError):
        save_tree({"a": object()}, path)
    assert load_tree(path)["a"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["t.safetensors"]


@pytest.mark.parametrize("content", [b"", b"rubbish", pickle.dumps({"state_dict": {}})])
def test_damaged_and_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "t.safetensors"
    path.write_bytes(content)
    with pytest.raises(FIMPError, match=r"t\.safetensors: not a readable checkpoint"):
        load_tree(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "t.safetensors"
    save_tree({"a": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FIMPError, match="not a readable checkpoint"):
        SafeCheckpointIO().load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("bias"), "key 'bias' is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "key 'extra' is unexpected"),
        (lambda s: s.update(bias=torch.zeros(5)), r"'bias' has shape \[5\], wanted \[2\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, change, message):
    state = dict(torch.nn.Linear(3, 2).state_dict())
    change(state)
    save_tree({"state_dict": state}, tmp_path / "w.safetensors")
    with pytest.raises(FIMPError, match=message):
        load_weights(torch.nn.Linear(3, 2), tmp_path / "w.safetensors")
