import json

import pytest
from PIL import Image

from fimp.data.place_files import read_place_file
from fimp.errors import FIMPError


def pictures(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("head", ["path,Latitude,kind", "file_name,Latitude,kind", "Path,Latitude,kind"])
def test_a_table_lists_paths_beside_it(tmp_path, head):
    table = read_place_file(written(tmp_path / "t.csv", f"\ufeff{head}\nimages/a.png, 1.5 ,x\nb.png,,\n"))
    assert table.paths == [tmp_path / "images" / "a.png", tmp_path / "b.png"]
    assert table.columns["Latitude"] == ["1.5", ""]
    assert table.columns["kind"] == ["x", ""]


def test_the_table_of_a_folder(tmp_path):
    pictures(tmp_path, "a/x.png", "b/y.png")
    written(tmp_path / "images.csv", "path,latitude\nb/y.png,2\n")
    table = read_place_file(tmp_path)
    assert table.paths == [tmp_path / "b" / "y.png"]
    assert table.columns == {"path": ["b/y.png"], "latitude": ["2"]}


def test_a_table_with_tabs(tmp_path):
    assert read_place_file(written(tmp_path / "t.tsv", "path\tlabel\na,b.png\tx\n")).columns["label"] == ["x"]


def feature(key, longitude, latitude, **properties):
    point = {"type": "Point", "coordinates": [longitude, latitude]}
    return {"type": "Feature", "geometry": point, "properties": {"id": key, **properties}}


def test_features_of_a_collection_name_images_by_their_number(tmp_path):
    pictures(tmp_path, "17.webp")
    features = [feature(17, 12.5, -41.0, country="NZ", detections=[1]), feature("18", 13.5, 2.0)]
    table = read_place_file(written(tmp_path / "t.geojson", {"type": "FeatureCollection", "features": features}))
    # The image that is there, whatever its ending, or else the name that it should have.
    assert table.paths == [tmp_path / "17.webp", tmp_path / "18.jpg"]
    assert table.columns["longitude"] == ["12.5", "13.5"]
    assert table.columns["latitude"] == ["-41.0", "2.0"]
    assert table.columns["country"] == ["NZ", ""]
    assert "detections" not in table.columns


def test_answers_of_mapillary_and_what_its_tools_write(tmp_path):
    point = {"type": "Point", "coordinates": [3.0, 4.0]}
    corrected = {"type": "Point", "coordinates": [3.1, 4.1]}
    answer = {"data": [{"id": "1", "geometry": point}, {"id": "2", "geometry": point, "computed_geometry": corrected}]}
    table = read_place_file(written(tmp_path / "t.json", answer))
    assert table.columns["latitude"] == ["4.0", "4.1"]
    described = [{"filename": "x.jpg", "MAPLatitude": 45.5, "MAPLongitude": -122.5, "MAPOrientation": 1}]
    table = read_place_file(written(tmp_path / "mapillary_image_description.json", described))
    assert table.paths == [tmp_path / "x.jpg"]
    assert (table.columns["latitude"], table.columns["longitude"]) == (["45.5"], ["-122.5"])


def test_features_line_by_line(tmp_path):
    lines = "\n".join(json.dumps(feature(key, key, 1.0, label=None)) for key in (1, 2)) + "\n\n"
    table = read_place_file(written(tmp_path / "t.jsonl", lines))
    assert table.columns["longitude"] == ["1", "2"]
    assert table.columns["label"] == ["", ""]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_folder_with_metadata(tmp_path, name):
    pictures(tmp_path, "a.png", "sub/b.png", "c.png")
    rows = [{"file_name": "a.png", "lat": 1, "label": "x"}, {"file_name": "sub/b.png", "lat": 2, "label": "y"}]
    lines = ["file_name,lat,label", *(",".join(map(str, row.values())) for row in rows)]
    written(tmp_path / name, "\n".join(lines if name.endswith("csv") else map(json.dumps, rows)))
    table = read_place_file(tmp_path)
    assert table.paths == [tmp_path / "a.png", tmp_path / "sub" / "b.png"]
    assert table.columns["label"] == ["x", "y"]
    assert "split" not in table.columns
    assert table.notes == ["1 images stand in no metadata.csv or metadata.jsonl: left out"]


def test_folders_of_parts_with_metadata_each(tmp_path):
    for part in ("train", "validation", "test"):
        pictures(tmp_path, f"{part}/a.png")
        written(tmp_path / part / "metadata.csv", f"file_name,lat,lon\na.png,{len(part)},0\n")
    table = read_place_file(tmp_path)
    assert table.columns["split"] == ["test", "train", "val"]
    assert table.columns["lat"] == ["4", "5", "10"]
    assert "label" not in table.columns


def test_folders_are_classes(tmp_path):
    pictures(tmp_path, "train/cat/a.png", "train/dog/b.png", "test/dog/c.png")
    table = read_place_file(tmp_path)
    assert table.columns == {"split": ["test", "train", "train"], "label": ["dog", "cat", "dog"]}


def test_one_folder_is_no_class(tmp_path):
    pictures(tmp_path, "images/a.png", "images/b.png")
    assert read_place_file(tmp_path).columns == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "file,label\na.png,1\n", "no column 'path' among file, label"),
        ("t.csv", "", "empty, wanted a table"),
        ("t.csv", "path,lat\n", "lists no images"),
        ("t.csv", "path,lat\na.png\n", "row 2 has 1 columns and row 1 has 2"),
        ("t.csv", "path,lat\n,1\n", "column 'path' is empty in row 1"),
        ("t.csv", "path,lat,lat\na,1,1\n", "2 columns are named 'lat'"),
        ("t.csv", "Path,PATH\na,1\n", "columns 'Path' and 'PATH' are both 'path'"),
        ("t.csv", b"path\n\xff\xfe.png\n", "not readable as csv"),
        ("t.txt", "path\n", "is a .txt"),
        ("t.json", "{", "not readable as json"),
        ("t.json", "[" * 100_000, "not readable as json"),
        ("t.json", '{"a": 1}', "holds a dict, wanted a list of images or 'features'"),
        ("t.json", "[]", "lists no images"),
        ("t.json", "[1]", "an entry is '1', wanted an object"),
        ("t.json", '[{"lat": 1}]', "no column 'path' among lat"),
    ],
)
def test_files_that_do_not_do(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FIMPError, match=message):
        read_place_file(path)


def test_places_without_images(tmp_path):
    with pytest.raises(FIMPError, match="does not exist"):
        read_place_file(tmp_path / "nowhere")
    with pytest.raises(FIMPError, match="no images"):
        read_place_file(tmp_path)
    pictures(tmp_path, "a.png")
    written(tmp_path / "metadata.csv", "file_name\n")
    with pytest.raises(FIMPError, match=r"metadata\.csv: lists no images"):
        read_place_file(tmp_path)
