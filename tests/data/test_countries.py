import csv
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fimp.data.countries import countries
from fimp.data.place_labels import LOOKUPS, Lookup
from fimp.data.places import PlaceOptions, read_places
from fimp.errors import FIMPError

#: Strasbourg and Kehl, five kilometres apart, and places around them.
LATITUDE = np.repeat([48.58, 48.57], 6) + 0.001 * np.arange(12)
LONGITUDE = np.repeat([7.75, 7.82], 6)


def table(folder, extra=""):
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    with (folder / "images.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "latitude", "longitude", *([extra] if extra else [])])
        for row, place in enumerate(zip(LATITUDE, LONGITUDE, strict=True)):
            writer.writerow(["a.png", *place, *([f"own {row % 2}"] if extra else [])])
    return folder / "images.csv"


def test_countries_are_found_on_either_side_of_a_border():
    assert countries(LATITUDE, LONGITUDE) == ["France"] * 6 + ["Germany"] * 6
    assert countries(np.array([-41.3, -41.3]), np.array([174.8, 174.8 - 360.0])) == ["New Zealand"] * 2
    assert countries(np.array([40.7]), np.array([360.0 - 74.0])) == ["United States"]


def test_a_label_that_is_no_column_is_looked_up(tmp_path):
    data = read_places(table(tmp_path), PlaceOptions(label="country"))
    assert data.class_names == ["France", "Germany"]
    assert data.y.tolist() == [0] * 6 + [1] * 6
    assert any("looked up" in note and "near borders" in note for note in data.notes)


@pytest.mark.parametrize("column", ["country", "Country"])
def test_a_column_comes_before_what_coordinates_say(tmp_path, column):
    data = read_places(table(tmp_path, column), PlaceOptions(label="country"))
    assert data.class_names == ["own 0", "own 1"]
    assert not any("looked up" in note for note in data.notes)


def test_another_lookup_is_a_line(tmp_path, monkeypatch):
    zones = Lookup(lambda latitude, _: ["north" if one > 48.58 else "south" for one in latitude], "by halves")
    monkeypatch.setitem(LOOKUPS, "zone", zones)
    data = read_places(table(tmp_path), PlaceOptions(label="zone"))
    assert data.class_names == ["north", "south"]
    assert any("by halves" in note for note in data.notes)


def test_one_country_is_no_task(tmp_path, monkeypatch):
    monkeypatch.setitem(LOOKUPS, "country", Lookup(lambda latitude, _: ["Mali"] * len(latitude), ""))
    with pytest.raises(FIMPError, match="'country', looked up, has the one class 'Mali'"):
        read_places(table(tmp_path), PlaceOptions(label="country"))


def test_without_the_package_the_error_says_what_to_do(run_cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "reverse_geocode", None)
    code, _, err = run_cli(
        "compare", "image", "--data", table(tmp_path), "--label", "country", "--models", "mean", "--out", tmp_path / "o"
    )
    assert code == 2
    assert err.count("\n") == 1
    assert "pip install 'fimp[country]'" in err
    assert not (tmp_path / "o").exists()


def test_the_package_is_not_imported_unasked(tmp_path):
    code = (
        "import sys; from fimp.data.places import *; "
        f"read_places({str(table(tmp_path, 'label'))!r}); assert 'reverse_geocode' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
