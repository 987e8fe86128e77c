import csv

import numpy as np
import pytest
import torch
from PIL import Image

from fimp.data import read_places
from fimp.data.pixels import read_pixels
from fimp.data.places import PlaceOptions
from fimp.data.simulate import images
from fimp.data.simulated_images import path_of
from fimp.errors import FIMPError


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def directions(paths):
    """The direction of the furrows, as far as their gradients tell it: ``[N, 2]``."""
    out = []
    for path in paths:
        grey = np.asarray(Image.open(path), dtype=float)
        across, down = grey[1:-1, 2:] - grey[1:-1, :-2], grey[2:, 1:-1] - grey[:-2, 1:-1]
        xx, yy, xy = (across**2).mean(), (down**2).mean(), (across * down).mean()
        out.append([(xx - yy) / (xx + yy), 2 * xy / (xx + yy)])
    return np.array(out)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return read_places(images(tmp_path_factory.mktemp("map"), labelled=1.0), PlaceOptions(split_by="region"))


def test_a_seed_fixes_every_byte(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert images(tmp_path / name, 40, seed) == tmp_path / name / "images.csv"
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")
    # What is there is replaced.
    images(tmp_path / "c", 40, 0)
    assert content(tmp_path / "a") == content(tmp_path / "c")


def test_the_table_lists_images_of_one_size(tmp_path):
    path = images(tmp_path, 40)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "latitude", "longitude", "label", "region", "split"]
    assert len(rows) == 40
    pixels = read_pixels([tmp_path / row["path"] for row in rows], 48, on_error="fail")
    assert pixels.read(np.arange(40)).shape == (40, 48, 48, 3)
    assert Image.open(tmp_path / rows[0]["path"]).size == (48, 48)


def test_countries_are_smooth_and_all_there(data):
    source, destination = data.edge_index
    assert data.num_nodes == 800
    assert data.class_names == [f"country {letter}" for letter in "ABCD"]
    assert data.groups.max() == 15
    assert 0.75 < float((data.y[source] == data.y[destination]).double().mean()) < 0.95
    assert data.edge_index.size(1) > 6 * 800


def test_neighbours_tell_what_an_image_alone_does_not(data):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    own, (source, destination) = directions(data.paths), data.edge_index.numpy()
    around = np.zeros_like(own)
    np.add.at(around, destination, own[source])
    around /= np.maximum(np.bincount(destination, minlength=800), 1)[:, None]
    model = LogisticRegression(C=100.0, max_iter=500)
    alone = cross_val_score(model, own, data.y, cv=5).mean()
    together = cross_val_score(model, np.c_[own, around], data.y, cv=5).mean()
    assert 0.5 < alone < 0.68
    assert together > alone + 0.15


def test_colours_tell_nothing(data):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    pixels = read_pixels(data.paths, 48).read(np.arange(800)).reshape(800, -1, 3) / 255.0
    colour = np.c_[pixels.mean(1), pixels.std(1)]
    largest = np.bincount(data.y).max() / 800
    assert cross_val_score(LogisticRegression(max_iter=500), colour, data.y, cv=5).mean() < largest + 0.05


def test_few_training_images_have_labels(tmp_path):
    data = read_places(images(tmp_path, seed=3))
    assert 60 < int(data.train_mask.sum()) < 140
    assert int(data.test_mask.sum()) > 120
    assert torch.equal(data.y >= 0, data.train_mask | data.val_mask | data.test_mask)
    with pytest.raises(FIMPError, match="labelled=2"):
        images(tmp_path, labelled=2)


def test_what_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(FIMPError, match="n_places=39, wanted at least 40"):
        images(tmp_path, 39)
    (tmp_path / "file").write_text("")
    with pytest.raises(FIMPError, match="cannot be written"):
        images(tmp_path / "file", 40)


def test_the_name_stands_for_images_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    table = path_of("simulated_images")
    assert tmp_path in table.parents
    assert len(table.read_text().splitlines()) == 801
    first = table.stat().st_mtime_ns
    assert path_of("simulated_images").stat().st_mtime_ns == first
    assert not list(table.parent.parent.glob(".*"))
    assert path_of(tmp_path) == tmp_path
