import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import optuna
import pytest

import fimp.train.tune as tuning
from fimp.data.nodes import NodeOptions
from fimp.errors import FIMPError
from fimp.models import resolve
from fimp.tasks.node import NodeTaskOptions
from fimp.train.options import TrainOptions
from fimp.train.runs import RunConfig
from fimp.train.tune import Study, apply_tuned, points

MODEL = resolve("mlp")
OWN = points(1, 0, MODEL.hyperparameters)[0]


def score_of(params, fold):
    return 0.6


class Trainer:
    """Stands in for training: ``curve(params, fold)`` are validation scores, ``score(params, fold)`` the final one."""

    def __init__(self):
        self.curve, self.score, self.trained = lambda params, fold: [], score_of, []

    def fit(self, task, choice, options, on_validation=None):
        params = {name: getattr(choice.hyperparameters, name) for name in OWN}
        self.trained.append((params, task.seed))
        for value in self.curve(params, task.seed):
            if on_validation is not None:
                on_validation(value)
        return SimpleNamespace(network=None)

    def evaluate(self, task, *_):
        return {"accuracy": self.score(*self.trained[-1])}


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    monkeypatch.setattr(tuning, "fit", trainer.fit)
    monkeypatch.setattr(tuning, "evaluate", trainer.evaluate)
    return trainer


@pytest.fixture
def search(tmp_path):
    """``search(trials, seeds)`` runs a search in one folder, again and again; ``search.said`` is what it told."""
    nodes, said = np.arange(60), []
    path, x = tmp_path / "g.npz", np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    np.savez(path, x=x, edge_index=np.stack([nodes, np.roll(nodes, 1)]), y=nodes % 3)
    train = TrainOptions(epochs=1, device="cpu")
    base = RunConfig("node", str(path), NodeOptions(), NodeTaskOptions(), train, "mlp", MODEL.hyperparameters, 0)

    def run(trials, seeds=1):
        folds = tuple(replace(base, seed=seed) for seed in range(seeds))
        return Study(0, folds, trials, tmp_path / "out").run(lambda share, text: said.append(text))

    run.said = said
    return run


def interrupted_at(count, curve):
    """A curve that is interrupted in the given one of the fits."""
    calls = iter(range(1, 1000))

    def out(params, fold):
        if next(calls) == count:
            raise KeyboardInterrupt
        return curve(params, fold)

    return out


def states(report):
    return [trial["state"] for trial in report["trials"]]


def test_equally_good_trials_are_not_pruned_where_folds_are_of_different_length(trainer, search):
    # The first fold is easy and the second hard; the defaults stop early on the first, so theirs is reported sooner.
    trainer.curve = lambda params, fold: [(0.9, 0.5)[fold]] * (16 if params == OWN and not fold else 30)
    assert states(search(4, seeds=2)) == ["complete"] * 4


def test_a_trial_that_stops_early_is_not_compared_on_the_next_fold(trainer, search):
    trainer.score = lambda params, fold: (0.9, 0.5)[fold] + 0.05 * (params != OWN)
    trainer.curve = lambda params, fold: [trainer.score(params, fold)] * (30 if params == OWN or fold else 16)
    report = search(4, seeds=2)
    assert states(report) == ["complete"] * 4
    assert report["score"] == pytest.approx(0.75)


@pytest.mark.parametrize("validations", [6, 18, 54])
def test_a_trial_that_is_behind_is_pruned_on_the_first_fold(trainer, search, validations):
    trainer.curve = lambda params, fold: [0.5] * (validations - 1) + [0.5 if params == OWN else 0.4] * 5
    assert states(search(4, seeds=2)) == ["complete", "pruned", "pruned", "pruned"]
    assert len(trainer.trained) == 2 + 3


def test_a_third_of_the_trials_goes_on(trainer, search):
    # The last one is the second best of six.
    scores = dict(zip(map(str, points(6, 0, MODEL.hyperparameters)), [0.9, 0.1, 0.1, 0.1, 0.1, 0.8], strict=True))
    trainer.curve = lambda params, fold: [scores[str(params)]] * 6
    assert states(search(6)) == ["complete", *["pruned"] * 4, "complete"]


def test_interrupted_defaults_are_tried_first_again_and_never_pruned(trainer, search):
    slow = lambda params, fold: [0.1 if params == OWN else 0.5] * 20  # noqa: E731
    trainer.score = lambda params, fold: 0.9 if params == OWN else 0.6
    trainer.curve = interrupted_at(1, slow)
    with pytest.raises(KeyboardInterrupt):
        search(6)
    report = search(6)
    assert trainer.trained[1][0] == OWN
    assert report["trials"][0] == {"params": OWN, "score": 0.9, "state": "complete"}
    assert report["score"] == 0.9


@pytest.mark.parametrize("cut", range(1, 9))
def test_an_interrupted_search_ends_like_a_whole_one(trainer, search, tmp_path, cut):
    def curve(params, fold):
        return list(np.random.default_rng([int(1e5 * (value or 0)) for value in params.values()]).random(20))

    trainer.curve = interrupted_at(cut, curve)
    with pytest.raises(KeyboardInterrupt):
        search(8)
    report = search(8)
    (tmp_path / "out" / "tune.db").unlink()
    trainer.curve = curve
    whole = search(8)
    assert "pruned" in states(whole)
    assert report == whole


def test_a_shorter_search_leaves_out_what_a_longer_one_had_planned(trainer, search):
    trainer.curve = interrupted_at(2, trainer.curve)
    with pytest.raises(KeyboardInterrupt):
        search(12)
    search.said.clear()
    report = search(3)
    assert [trial["params"] for trial in report["trials"]] == points(3, 0, MODEL.hyperparameters)
    assert search.said == ["trial 2 of 3", "trial 3 of 3"]


def test_trials_that_an_older_version_left_waiting_are_dropped(trainer, search, tmp_path):
    search(1)
    study = optuna.load_study(study_name="node mlp", storage=f"sqlite:///{tmp_path / 'out' / 'tune.db'}")
    for point in points(12, 0, MODEL.hyperparameters)[1:]:
        study.enqueue_trial(point)
    assert len(search(3)["trials"]) == 3
    assert len(trainer.trained) == 3


def test_a_shorter_search_reports_its_own_points_alone(trainer, search):
    best = points(4, 0, MODEL.hyperparameters)[-1]
    trainer.score = lambda params, fold: 0.9 if params == best else 0.6
    assert search(4)["score"] == 0.9
    assert search(2)["score"] == 0.6
    assert len(trainer.trained) == 4


def test_a_score_that_does_not_exist_is_a_mistake_at_once(trainer, search):
    trainer.score = lambda params, fold: (0.5, float("nan"))[fold]
    with pytest.raises(FIMPError, match=r"g\.npz: accuracy of mlp does not exist .* seed 1.*single class") as raised:
        search(3, seeds=2)
    assert "\n" not in str(raised.value)
    assert len(trainer.trained) == 2


def test_a_trial_without_a_score_is_not_repeated(trainer, search):
    trainer.score = lambda params, fold: 0.5 if params == OWN else float("nan")
    assert states(search(3)) == ["complete", "pruned", "pruned"]
    assert search(3)["score"] == 0.5
    assert len(trainer.trained) == 3


@pytest.fixture
def tuned(tmp_path):
    def write(*names):
        entries = {
            name: {"hyperparameters": asdict(replace(MODEL.hyperparameters, lr=0.01 * (index + 1)))}
            for index, name in enumerate(names)
        }
        (tmp_path / "best.json").write_text(json.dumps({"task": "node", "models": entries}))
        return tmp_path

    return write


def test_a_control_takes_the_settings_of_its_model(tuned, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "bert"}')
    fills = [row.name for row in resolve("gcn").filled()]
    names = ["gat", *fills, "fimp-base", "fimp-base,genes=a.npz", f"fimp:{tmp_path / 'model'}"]
    folder = tuned(*names)
    controls = [
        resolve("gat:no-edges"),
        *resolve("gcn:shuffled-edges").filled(),
        resolve("fimp-base:no-edges"),
        resolve("fimp-base:no-edges,genes=a.npz"),
        resolve(f"fimp:{tmp_path / 'model'}:no-edges"),
    ]
    for choices in (controls, [resolve(name) for name in names]):
        rates = [choice.hyperparameters.lr for choice in apply_tuned(choices, folder, "node")]
        assert rates == pytest.approx([0.01 * (index + 1) for index in range(len(names))])


def test_a_control_that_was_tuned_keeps_its_own(tuned):
    (choice,) = apply_tuned([resolve("gcn:no-edges")], tuned("gcn", "gcn:no-edges"), "node")
    assert choice.hyperparameters.lr == 0.02


@pytest.mark.parametrize(
    "name", ["fimp-base,genes=a.npz", "fimp-base:no-edges,genes=a.npz", "gcn+mean", "gcn+mean:no-edges"]
)
def test_settings_of_another_model_are_not_taken(tuned, name):
    with pytest.raises(FIMPError, match=r"was not tuned .*\(there are fimp-base, gcn\)"):
        apply_tuned([resolve(name)], tuned("fimp-base", "gcn"), "node")


def test_a_file_is_no_folder_of_a_search(tuned):
    folder = tuned("gcn")
    with pytest.raises(FIMPError) as raised:
        apply_tuned([resolve("gcn")], folder / "best.json", "node")
    assert str(raised.value) == f"--tuned: {folder / 'best.json'} is a file; pass its folder, {folder}"
