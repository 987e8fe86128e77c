import json

import numpy as np
from matplotlib.image import imread

from fimp.analysis.reconstruction import reconstruction_figure
from fimp.data import simulate
from fimp.data.recording_graph import RecordingOptions, read_recording_graph
from fimp.models import resolve
from fimp.tasks import FMRITask
from fimp.train import TrainOptions
from fimp.train.evaluation import outcomes


def test_the_figure_shows_the_best_models_and_no_nonsense(tmp_path):
    folder = simulate.recordings(tmp_path / "data", n_subjects=3, n_regions=6, n_times=50)
    task = FMRITask(read_recording_graph(folder, RecordingOptions(window=40, patch=5, neighbors=2)), seed=0)
    choice = resolve("interpolate")
    outcome = outcomes(task, choice, task.network(choice), task.split["test"], TrainOptions(device="cpu"))
    example = task.example(outcome)
    nodes = np.unique(example["nodes"].numpy())
    assert set(nodes) <= set(task.split["test"])
    assert len({node // 6 for node in nodes}) == 1
    assert len(nodes) == 3
    assert example["predicted"].shape == (18, 5)
    names = [f"model {number}" for number in range(10)]
    # A metric that does not exist is null in results.json.
    runs = [{"model": name, "seed": 0, "metrics": {"r2": None if k == 3 else 0.1 * k}} for k, name in enumerate(names)]
    results = json.loads(json.dumps({"runs": runs}))
    reconstruction_figure(task, dict.fromkeys(names, example), results).savefig(tmp_path / "many.png")
    reconstruction_figure(task, {names[0]: example}, results).savefig(tmp_path / "one.png")
    many, one = imread(tmp_path / "many.png"), imread(tmp_path / "one.png")
    assert many.shape[0] > 3 * one.shape[0]
    assert many[..., :3].std() > 0.05
