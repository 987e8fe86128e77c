import csv

import numpy as np
import pytest
import torch
from PIL import Image

from fimp.data.geography import geographic_graph
from fimp.data.place_labels import PlaceReference
from fimp.data.places import PlaceOptions, read_places
from fimp.errors import FIMPError

N = 14


def columns(**changed):
    """Two images at each of seven places along a road, 7 miles from place to place."""
    base = {
        "path": [f"{row:02}.png" for row in range(N)],
        "latitude": [f"{0.1 * (row // 2)}" for row in range(N)],
        "longitude": ["-95.5"] * N,
        "label": ["wet", "dry"] * (N // 2),
        "spot": [f"s{row // 2}" for row in range(N)],
        "region": [f"{row // 5 + 8}" for row in range(N)],
    }
    return {key: value for key, value in (base | changed).items() if value is not None}


def table(folder, exif=(), **changed):
    cells = columns(**changed)
    for row, name in enumerate(columns()["path"]):
        tags = Image.Exif()
        if row in exif:
            tags[0x8825] = {1: "N", 2: (0.0, 6.0 * (row // 2), 0.0), 3: "W", 4: (95.0, 30.0, 0.0)}
        Image.new("RGB", (4, 4)).save(folder / name, exif=tags)
    with (folder / "images.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(cells)
        writer.writerows(zip(*cells.values(), strict=True))
    return folder / "images.csv"


def noted(data, text):
    return any(text in note for note in data.notes)


def test_a_table_becomes_a_graph_of_places(tmp_path):
    data = read_places(table(tmp_path), PlaceOptions(split_by="region", same_place="spot"))
    assert data.num_nodes == N
    assert data.paths[3] == tmp_path / "03.png"
    assert data.class_names == ["dry", "wet"]
    assert data.num_classes == 2
    assert data.y.dtype == torch.int64
    assert data.y.tolist() == [1, 0] * (N // 2)
    assert data.pos.shape == (N, 3)
    assert data.pos.dtype == torch.float32
    assert data.latitude.dtype == data.longitude.dtype == torch.float64
    # Numbers as names are in the order of their size.
    assert data.groups.tolist() == [row // 5 for row in range(N)]
    assert data.places.tolist() == [row // 2 for row in range(N)]
    assert torch.equal(data.edge_index, geographic_graph(data.latitude, data.longitude, place=data.places))
    assert "train_mask" not in data
    assert noted(data, "coordinates from columns 'latitude' and 'longitude'")
    assert noted(data, "2 classes (dry, wet), the largest 50%")
    assert all("\n" not in note for note in data.notes)


def test_options_make_the_graph(tmp_path):
    path = table(tmp_path)
    far = read_places(path, PlaceOptions(radius_miles=1.0, neighbors=3))
    assert far.edge_index.size(1) == N
    assert far.get("groups") is None
    assert far.get("places") is None
    assert read_places(path, PlaceOptions(neighbors=3)).edge_index.size(1) == 3 * N


@pytest.mark.parametrize("names", [("lat", "lon"), ("LAT", "Lng"), ("Latitude", "LONGITUDE")])
def test_other_names_of_coordinates(tmp_path, names):
    base = columns()
    given = {names[0]: base["latitude"], names[1]: base["longitude"]}
    data = read_places(table(tmp_path, latitude=None, longitude=None, **given))
    assert data.latitude.tolist() == [float(cell) for cell in base["latitude"]]
    assert noted(data, f"columns {names[0]!r} and {names[1]!r}")


def test_labels_have_no_part_in_the_graph(tmp_path):
    first = read_places(table(tmp_path)).edge_index
    label = [str(value) for value in np.random.default_rng(0).integers(0, 3, N)]
    label[:2] = ["", ""]
    second = read_places(table(tmp_path, label=label))
    assert torch.equal(first, second.edge_index)
    assert second.y[:2].tolist() == [-1, -1]
    assert noted(second, "2 images have no label")


def test_class_numbers_keep_their_order_and_na_is_a_name(tmp_path):
    data = read_places(table(tmp_path, label=["10", "9"] * 7))
    assert data.class_names == ["9", "10"]
    assert read_places(table(tmp_path, label=["NA", "DE"] * 7)).class_names == ["DE", "NA"]


def test_without_labels(tmp_path):
    data = read_places(table(tmp_path, label=None, split=["train"] * N), PlaceOptions(label=None))
    assert (data.y == -1).all()
    assert data.num_classes == 0
    assert "train_mask" not in data


def test_exif_data_fill_what_the_table_lacks(tmp_path):
    whole = read_places(table(tmp_path))
    latitude, longitude = columns()["latitude"], columns()["longitude"]
    latitude[4], longitude[5] = "NaN", ""
    some = read_places(table(tmp_path, exif=(4, 5), latitude=latitude, longitude=longitude))
    assert torch.allclose(some.pos, whole.pos, atol=1e-6)
    assert noted(some, "coordinates of 2 images from their EXIF data")
    none = read_places(table(tmp_path, exif=range(N), latitude=None, longitude=None))
    assert torch.allclose(none.pos, whole.pos, atol=1e-6)


def test_images_without_coordinates_or_file_are_counted_or_stop(tmp_path):
    latitude = columns()["latitude"]
    latitude[4] = latitude[6] = ""
    path = table(tmp_path, latitude=latitude)
    (tmp_path / "01.png").unlink()
    data = read_places(path)
    assert data.num_nodes == N - 3
    assert [file.name for file in data.paths[:3]] == ["00.png", "02.png", "03.png"]
    assert noted(data, "left out 1 of 14 images, as each is not there")
    assert noted(data, "left out 2 of 14 images, as each has no coordinates")
    with pytest.raises(FIMPError, match=r"01\.png is not there .*--on-error skip"):
        read_places(path, PlaceOptions(on_error="fail"))
    table(tmp_path, latitude=latitude)
    with pytest.raises(FIMPError, match=r"04\.png has no coordinates.*\(2 such images\).*--on-error skip"):
        read_places(path, PlaceOptions(on_error="fail"))


def test_a_published_split_is_kept(tmp_path):
    split = ["train"] * 6 + ["Validation"] * 4 + ["test"] * 3 + [""]
    label = ["", *columns()["label"][1:]]
    data = read_places(table(tmp_path, split=split, label=label), PlaceOptions(same_place="spot"))
    assert data.train_mask.tolist() == [row in range(1, 6) for row in range(N)]
    assert data.val_mask.nonzero().flatten().tolist() == [6, 7, 8, 9]
    assert data.test_mask.nonzero().flatten().tolist() == [10, 11, 12]
    assert noted(data, "one published split (column 'split', 5/4/3 images)")
    assert noted(data, "1 labelled images are in no part")
    assert not noted(data, "may leak")
    torn = ["train", "test", "val", *split[3:]]
    assert noted(read_places(table(tmp_path, split=torn), PlaceOptions(same_place="spot")), "2 places have images in")


def test_notes_on_what_looks_like_a_mistake(tmp_path):
    path = ["01.png", "01.png", *columns()["path"][2:]]
    latitude, longitude = columns()["latitude"], columns()["longitude"]
    latitude[3] = longitude[3] = "0"
    data = read_places(table(tmp_path, path=path, latitude=latitude, longitude=longitude))
    assert noted(data, "1 images have no neighbour")
    assert noted(data, "1 images lie at exactly 0 N 0 E")
    assert noted(data, "1 rows name an image that an earlier row names too")


@pytest.mark.parametrize(
    ("changed", "options", "message"),
    [
        ({"label": None}, {}, "no column 'label' among path, latitude.*--label"),
        ({"label": ["one"] * N}, {}, "column 'label' has the one class 'one', wanted at least 2"),
        ({"label": [""] * N}, {}, "column 'label' is empty"),
        ({"label": ["nan"] * N}, {}, "column 'label' is empty"),
        ({"label": ["a", "b"] * 4 + [""] * 6}, {}, "column 'label' labels 8 images, wanted at least 10"),
        ({}, {"split_by": "country"}, "no column 'country'.*--split-by"),
        ({}, {"same_place": "country"}, "no column 'country'.*--same-place"),
        ({"latitude": ["north"] * N}, {}, "column 'latitude' has 'north' in row 1, wanted degrees from -90 to 90"),
        ({"latitude": ["0"] * 13 + ["-95.5"]}, {}, "'-95.5' in row 14, wanted degrees from -90 to 90"),
        ({"longitude": ["inf"] * N}, {}, "'inf' in row 1, wanted degrees from -180 to 360"),
        ({"longitude": None}, {}, "no image has coordinates .*wanted columns latitude and longitude"),
        ({"path": ["lost.png"] * N}, {}, "no image is left; left out 14 of 14"),
        ({"split": ["fold1"] * N}, {}, "column 'split' has 'fold1', wanted train, val or test"),
        ({"split": ["train", "test"] * 7}, {}, "val of column 'split' of split 0 selects no node"),
        ({}, {"on_error": "ignore"}, "--on-error: 'ignore' is unknown"),
        ({}, {"radius_miles": 0.0}, "radius_miles is 0"),
    ],
)
def test_what_cannot_be_used_is_an_error(tmp_path, changed, options, message):
    with pytest.raises(FIMPError, match=message) as caught:
        read_places(table(tmp_path, **changed), PlaceOptions(**options))
    assert "\n" not in str(caught.value)


REFERENCE = PlaceReference(("wet", "icy", "dry"))
TRAINED = PlaceOptions(split_by="region", same_place="spot")


def test_other_images_are_read_for_a_trained_model(tmp_path):
    split = ["train", "train", "train", "val", "test"] + [""] * 9
    label = ["wet", "dry", "", "hot", "hot"] + [""] * 9
    data = read_places(table(tmp_path, label=label, split=split), TRAINED, REFERENCE)
    assert data.reference == REFERENCE
    assert data.class_names == ["wet", "icy", "dry"]
    assert data.y.tolist() == [0, 2] + [-1] * 12
    assert data.places is not None
    assert data.get("groups") is None
    assert data.get("train_mask") is None
    assert noted(data, "2 images have a class that the model does not know (hot)")


@pytest.mark.parametrize("empty", [None, [""] * N])
def test_other_images_need_neither_labels_nor_places(tmp_path, empty):
    path = table(tmp_path, label=empty, spot=empty, region=empty)
    data = read_places(path, TRAINED, REFERENCE)
    assert (data.y == -1).all()
    assert data.num_classes == 3
    assert torch.equal(data.edge_index, read_places(path, PlaceOptions(label=None)).edge_index)
    assert noted(data, "all images are unlabelled")
    assert noted(data, "no 'spot' here")
    one = read_places(table(tmp_path, **{key: cells[:1] for key, cells in columns().items()}), TRAINED, REFERENCE)
    assert one.num_nodes == 1
