import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fimp
from fimp.errors import FIMPError
from fimp.foundation import FAMILIES, FoundationModel

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"

FOLDERS = {
    "scgpt/checkpoint": "scgpt",
    "scgpt/checkpoint_flash": "scgpt",
    "hf_geneformer/checkpoint": "geneformer",
    "hf_geneformer/checkpoint_legacy": "geneformer",
    "hf_vit/checkpoint": "vit",
    "brainlm/checkpoint_exact": "brainlm",
    "brainlm/checkpoint_nystrom": "brainlm",
}
golden = pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not here")


@golden
@pytest.mark.parametrize(("folder", "family"), FOLDERS.items())
def test_every_family_is_recognised(folder, family):
    model = fimp.foundation.load(GOLDEN / folder)
    assert isinstance(model, FoundationModel)
    assert model.family == family
    assert not any(module.training for module in model.modules())
    assert isinstance(model.config, dict)
    assert [name for name, one in FAMILIES.items() if one.recognises(GOLDEN / folder)] == [family]
    again = fimp.foundation.load(str(GOLDEN / folder), kind=family)
    assert again.state_dict().keys() == model.state_dict().keys()


@golden
def test_import_fimp_alone_suffices():
    code = f"import fimp; print(fimp.foundation.load({str(GOLDEN / 'scgpt' / 'checkpoint')!r}).family)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "scgpt\n"


def fails(path, wanted, **options):
    with pytest.raises(FIMPError, match=wanted) as error:
        fimp.foundation.load(path, **options)
    assert "\n" not in str(error.value)


def test_folders_that_hold_no_checkpoint_are_named(tmp_path):
    fails(tmp_path / "none", "none: does not exist, wanted the folder of a checkpoint")
    (tmp_path / "file.pt").write_bytes(b"")
    fails(tmp_path / "file.pt", r"file\.pt: is a file, wanted the folder")
    empty = tmp_path / "empty"
    empty.mkdir()
    fails(empty, r"empty: holds no files of a checkpoint that fimp knows \(.*scgpt.*\)")
    (empty / "config.json").write_text(json.dumps({"model_type": "llama"}))
    fails(empty, "holds a config.json with model_type 'llama'")
    (empty / "config.json").write_text("{")
    fails(empty, r"config\.json: not readable as JSON")
    fails(empty, "kind='gpt' is unknown; use one of", kind="gpt")


@golden
def test_a_wrong_kind_says_what_is_missing(tmp_path):
    fails(GOLDEN / "scgpt" / "checkpoint", r"config\.json", kind="geneformer")
    fails(GOLDEN / "hf_geneformer" / "checkpoint", r"args\.json", kind="scgpt")


@golden
def test_the_licence_is_what_the_folder_states(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(GOLDEN / "hf_geneformer" / "checkpoint", folder, copy_function=shutil.copyfile)
    assert fimp.foundation.load(folder).info()["licence"] is None
    (folder / "LICENSE").write_text("\n  Apache License\n  Version 2.0\n")
    assert fimp.foundation.load(folder).info()["licence"] == "Apache License"
    (folder / "README.md").write_text('---\ndatasets: x\nlicense: "mit"\n---\n# Model\n')
    assert fimp.foundation.load(folder).info()["licence"] == "mit"
    (folder / "README.md").write_text("# Model\nlicense: none of this counts\n")
    assert fimp.foundation.load(folder).info()["licence"] == "Apache License"
