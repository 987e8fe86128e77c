import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fimp
from fimp.data.scaling import RobustScale
from fimp.errors import FIMPError
from fimp.foundation.brainlm_files import new_brainlm, save_brainlm

SIZES = {"patch": 5, "dim": 8, "layers": 2, "heads": 2, "hidden": 12, "decoder_layers": 1}
GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "brainlm" / "checkpoint_exact"


def made(**changes):
    torch.manual_seed(0)
    return new_brainlm(**{"regions": 3, "window": 20, **SIZES, **changes}).eval()


@torch.no_grad()
def test_a_saved_model_comes_back_the_same(tmp_path):
    model = made(mask_ratio=0.5)
    save_brainlm(model, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["config.json", "pytorch_model.bin"]
    found = fimp.foundation.load(tmp_path / "new")
    signal, xyz, noise = torch.randn(2, 3, 20), torch.randn(2, 3, 3), torch.rand(2, 12)
    one, other = (each.reconstruct(signal, xyz, noise=noise) for each in (model, found))
    assert torch.equal(one.logits, other.logits)
    assert other.mask.sum() == 12
    assert found.config == model.config
    assert found.scaling is None


def test_the_scaling_goes_with_the_model(tmp_path):
    model, generator = made(), np.random.default_rng(0)
    model.scaling = RobustScale.fit([generator.standard_normal((3, 30)), generator.standard_normal((3, 20))], False)
    save_brainlm(model, tmp_path / "new")
    found = fimp.foundation.load(tmp_path / "new").scaling
    signal = generator.standard_normal((3, 20))
    np.testing.assert_array_equal(found.prepare(signal), model.scaling.prepare(signal))
    assert not found.detrend
    path = tmp_path / "new" / "scaling.json"
    good = json.loads(path.read_text())
    for change in ({"iqr": [1.0, 0.0, 1.0]}, {"iqr": [1.0]}, {"median": None}, {"detrend": 1}, {"flat": "none"}):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(FIMPError, match=r"scaling\.json: wanted detrend"):
            fimp.foundation.load(tmp_path / "new")


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not here")
def test_a_published_folder_is_written_as_upstream_writes_it(tmp_path):
    save_brainlm(fimp.foundation.load(GOLDEN), tmp_path / "new")
    upstream, own = (torch.load(f / "pytorch_model.bin", weights_only=True) for f in (GOLDEN, tmp_path / "new"))
    assert set(own) == set(upstream)
    for key, value in upstream.items():
        if "decoder_pred." in key:  # which upstream stores and does not use
            assert own[key].shape == value.shape
        else:
            torch.testing.assert_close(own[key], value, rtol=0, atol=1e-5 if key.endswith(".pe") else 0)
    config = json.loads((GOLDEN / "config.json").read_text())
    assert json.loads((tmp_path / "new" / "config.json").read_text()) == config
    new = made().config
    assert {key: type(value) for key, value in new.items()} == {key: type(value) for key, value in config.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 0}, "window=20 and patch=0"),
        ({"patch": 7}, "window=20 and patch=7"),
        ({"window": 0}, "window=0 and patch=5"),
        ({"mask_ratio": 1.0}, "mask_ratio=1.0"),
        ({"heads": 3}, "heads=3 does not divide dim=8"),
    ],
)
def test_sizes_that_do_not_fit_are_one_line(changes, message):
    with pytest.raises(FIMPError, match=message):
        made(**changes)


def test_weights_that_are_no_numbers_are_not_written(tmp_path):
    model = made()
    with torch.no_grad():
        model.final_norm.weight[0] = float("nan")
    with pytest.raises(FIMPError, match="not written"):
        save_brainlm(model, tmp_path / "bad")
    assert not list(tmp_path.iterdir())
