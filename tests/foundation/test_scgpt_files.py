import json
from pathlib import Path

import pytest
import torch

import fimp
from fimp.errors import FIMPError
from fimp.foundation.scgpt_files import new_scgpt, save_scgpt


def test_a_saved_model_comes_back_the_same(tmp_path):
    torch.manual_seed(0)
    model = new_scgpt(["a", "b", "c"], dim=8, layers=2, heads=2, hidden=12).eval()
    save_scgpt(model, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]
    found = fimp.foundation.load(tmp_path / "new")
    assert found.vocabulary == {"a": 0, "b": 1, "c": 2, "<pad>": 3, "<cls>": 4, "<eoc>": 5}
    ids, values = torch.tensor([[4, 0, 2]]), torch.tensor([[0.0, 1.5, 3.0]])
    for one, other in zip(
        model.stack.encode(model.embed(ids, values), return_hidden_states=True),
        found.stack.encode(found.embed(ids, values), return_hidden_states=True),
        strict=True,
    ):
        assert torch.equal(one, other)


GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "scgpt" / "checkpoint"


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not here")
def test_the_file_has_upstreams_keys_and_shapes(tmp_path):
    golden = GOLDEN
    arguments = json.loads((golden / "args.json").read_text())
    genes = [name for name in json.loads((golden / "vocab.json").read_text()) if not name.startswith("<")]
    sizes = {"dim": arguments["embsize"], "layers": arguments["nlayers"], "heads": arguments["nheads"]}
    save_scgpt(new_scgpt(genes, hidden=arguments["d_hid"], **sizes), tmp_path / "new")
    upstream, own = (torch.load(folder / "best_model.pt", weights_only=True) for folder in (golden, tmp_path / "new"))
    assert {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in upstream.items()}
    written = json.loads((tmp_path / "new" / "args.json").read_text())
    assert set(written) <= set(arguments)


def test_nothing_is_overwritten_and_nothing_half_written_stays(tmp_path):
    model = new_scgpt(["a", "b"], dim=8, layers=1, heads=2, hidden=8)
    (tmp_path / "there").mkdir()
    with pytest.raises(FIMPError, match="exists; name a new folder"):
        save_scgpt(model, tmp_path / "there")
    (tmp_path / "file").write_text("")
    with pytest.raises(FIMPError, match="cannot be written"):
        save_scgpt(model, tmp_path / "file" / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]


def test_weights_that_are_no_numbers_are_neither_written_nor_read(tmp_path):
    model = new_scgpt(["a", "b"], dim=8, layers=1, heads=2, hidden=8)
    save_scgpt(model, tmp_path / "good")
    with torch.no_grad():
        model.gene_norm.weight[0] = float("nan")
    with pytest.raises(FIMPError, match="not written"):
        save_scgpt(model, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
    state = torch.load(tmp_path / "good" / "best_model.pt", weights_only=True)
    state["encoder.enc_norm.weight"][0] = float("inf")
    torch.save(state, tmp_path / "good" / "best_model.pt")
    with pytest.raises(FIMPError, match=r"'encoder\.enc_norm\.weight' has entries that are NaN or infinite"):
        fimp.foundation.load(tmp_path / "good")


@pytest.mark.parametrize("bins", [0, -3, 2])
def test_too_few_bins_are_refused(tmp_path, bins):
    save_scgpt(new_scgpt(["a", "b"], dim=8, layers=1, heads=2, hidden=8), tmp_path / "new")
    path = tmp_path / "new" / "args.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "n_bins": bins}))
    with pytest.raises(FIMPError, match="'n_bins' is"):
        fimp.foundation.load(tmp_path / "new")


def test_genes_need_names_of_their_own():
    with pytest.raises(FIMPError, match="named twice"):
        new_scgpt(["a", "a"])
    with pytest.raises(FIMPError, match="<cls>"):
        new_scgpt(["a", "<cls>"])
