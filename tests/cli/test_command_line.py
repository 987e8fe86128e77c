import shlex
import sys
from dataclasses import replace

import pytest

import fimp.cli.main
import fimp.tasks.base
from fimp.cli import compare as cli_compare
from fimp.cli.command_line import compare_command
from fimp.models import resolve
from fimp.train.options import TrainOptions
from fimp.train.runs import RunConfig


def config_of(task, source, data, options, **train):
    kind = fimp.tasks.base.known_tasks()[task]
    choice = resolve("gcn")
    config = RunConfig(
        task, source, kind.data_options(**data), kind.options(**options), TrainOptions(**train), "gcn",
        choice.hyperparameters, 0,
    )  # fmt: skip
    assert config.task == task
    return config


@pytest.mark.parametrize(
    ("task", "source", "data", "options", "train"),
    [
        ("expression", "a b.h5ad", {}, {}, {}),
        (
            "expression",
            ["a.h5ad", "b'.h5ad"],
            {"fraction": 0.05, "test_section": ("x y", "z"), "section": "none"},
            {"tokens": 30, "zeros": 0.5, "split": "blocks", "normalize": "visible"},
            {"epochs": 0, "batch_size": 32, "device": "cpu"},
        ),
        ("celltype", "a.h5ad", {"label": "type of cell"}, {"class_weights": "balanced"}, {"precision": "bf16"}),
        ("node", "Cora", {"undirected": True}, {"tokenizer": "grouped", "groups": 8}, {}),
        ("image", "i.csv", {"image_size": 32, "label": "country", "radius_miles": 2.5}, {"patch_size": 4}, {}),
        ("zeroshot", "i.csv", {"image_size": 32}, {"patch_size": 8, "embeddings": 50}, {}),
        ("fmri", "scans", {"detrend": False, "band_pass": (0.01, 0.1), "tr": 2.0}, {"masking": "future"}, {}),
    ],
)
def test_the_command_means_what_was_run(monkeypatch, task, source, data, options, train, tmp_path):
    config = config_of(task, source, data, options, **train)
    command = compare_command(config, ["gcn", "fimp-base"], 2, tmp_path / "my out")
    assert command is not None
    meant = {}

    class Stop(Exception):
        pass

    def caught(models):
        meant["models"] = models
        raise Stop

    # What the command line makes of the flags, up to the moment when data would be read.
    monkeypatch.setattr("fimp.models.resolve_all", caught)
    original = cli_compare.check_folder
    monkeypatch.setattr(cli_compare, "check_folder", lambda out: meant.update(out=out) or original(out))
    seen = []
    for one in (type(config.data), type(config.options)):
        before = one.__init__

        def remember(self, *args, _before=before, **kwargs):
            _before(self, *args, **kwargs)
            seen.append(self)

        monkeypatch.setattr(one, "__init__", remember)
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(Stop):
        fimp.cli.main.main()
    assert config.data in seen
    assert config.options in seen
    assert meant["models"] == "gcn,fimp-base"
    assert meant["out"] == tmp_path / "my out"
    for name, value in train.items():
        assert f"--{name.replace('_', '-')} {value}" in command


def test_settings_without_a_flag_have_no_command(tmp_path):
    plain = config_of("expression", "a.h5ad", {}, {})
    for config in (
        config_of("expression", "a.h5ad", {}, {"mask_ratio": 0.5}),
        config_of("expression", "a.h5ad", {"outside": True, "fraction": 0.5}, {}),
        config_of("expression", "a.h5ad", {}, {}, patience=3),
        replace(plain, source=None),
    ):
        assert compare_command(config, ["gcn"], 1, tmp_path) is None
    assert compare_command(plain, ["gcn"], 1, tmp_path) is not None
