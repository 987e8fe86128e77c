"""Files that list located images: tables, Mapillary's metadata, folders of images. All become one table of text."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fimp.data.images import SUFFIXES, find_images
from fimp.data.recording_files import read_table
from fimp.errors import FIMPError

#: The table in a folder of images, and the names of those in the style of Hugging Face.
TABLE = "images.csv"
METADATA = ("metadata.csv", "metadata.jsonl")
#: Folders that name a part of the split, and the values of a column that do.
PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_PATH_COLUMNS = ("path", "file_name", "filename")
_JSON = (".json", ".geojson", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class PlaceTable:
    """Rows as they were found, unchecked.

    Attributes
    ----------
    name
        For messages.
    paths
        The image of each row, N of them.
    columns
        Cells by column, N each, empty where a row has none.
    notes
        Remarks for the user.
    """

    name: str
    paths: list[Path]
    columns: dict[str, list[str]]
    notes: list[str] = field(default_factory=list)


def read_place_file(source: str | Path) -> PlaceTable:
    """Read what lists located images, without opening images.

    Parameters
    ----------
    source
        One of

        - a .csv or .tsv file with a column ``path`` (or ``file_name``), relative to the file's own folder
        - a .json, .geojson or .jsonl file: features with ``geometry.coordinates [longitude, latitude]``, as Mapillary
          answers them, or entries with ``MAPLatitude`` and ``MAPLongitude``, as its tools write them. The image is
          the one that ``filename`` says or that has the name of the ``id``, beside the file
        - a folder that holds such a file of the name ``images.csv``
        - a folder in the style of ``imagefolder`` of Hugging Face: ``metadata.csv`` or ``metadata.jsonl`` with
          ``file_name`` in it or below it, or one folder per class; folders ``train``, ``val`` and ``test`` are a split

    Raises
    ------
    FIMPError
        If it cannot be read, or lists no images.
    """
    place = Path(source).expanduser()
    if place.is_dir():
        if not (place / TABLE).is_file():
            return _folder(place)
        place /= TABLE
    if not place.is_file():
        raise FIMPError(f"{place}: does not exist, wanted a .csv, .tsv, .json or .geojson file or a folder of images")
    table = _table(place)
    if not table.paths:
        raise FIMPError(f"{place}: lists no images; wanted a row per image")
    return table


def _table(path: Path) -> PlaceTable:
    try:
        if path.suffix.lower() in (".csv", ".tsv"):
            columns = _cells(path)
        elif path.suffix.lower() in _JSON:
            columns = _transposed([_entry(item, path) for item in _items(path)])
        else:
            raise FIMPError(f"{path}: is a {path.suffix or 'file'}, wanted .csv, .tsv, {', '.join(_JSON)} or a folder")
    except FIMPError:
        raise
    # RecursionError comes from JSON that is nested without end.
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        what = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise FIMPError(f"{path}: not readable as {path.suffix[1:]} ({what}); save it again in UTF-8") from error
    return PlaceTable(str(path), _paths(columns, path), columns)


def _cells(path: Path) -> dict[str, list[str]]:
    head, *rows = read_table(path)
    titles = [title.strip() for title in head]
    if twice := sorted({title for title in titles if title and titles.count(title) > 1}):
        raise FIMPError(f"{path}: {titles.count(twice[0])} columns are named {twice[0]!r}; rename all but one")
    return {title: [row[place].strip() for row in rows] for place, title in enumerate(titles) if title}


def _items(path: Path) -> list[Any]:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    found = json.loads(text)
    for key in ("features", "data"):  # a collection of features, or an answer of Mapillary's API
        if isinstance(found, dict) and isinstance(found.get(key), list):
            found = found[key]
    if not isinstance(found, list):
        raise FIMPError(f"{path}: holds a {type(found).__name__}, wanted a list of images or 'features'; save one")
    if not found:
        raise FIMPError(f"{path}: lists no images; wanted an entry per image")
    return found


def _entry(item: Any, path: Path) -> dict[str, str]:
    """One image as cells: what is nested, other than properties and the point, is left out."""
    if not isinstance(item, dict):
        raise FIMPError(f"{path}: an entry is {str(item)[:40]!r}, wanted an object for each image; correct it")
    properties = item.get("properties")
    flat = {**item, **(properties if isinstance(properties, dict) else {})}
    # Mapillary corrects where a camera says it was.
    for key in ("computed_geometry", "geometry"):
        point = flat.get(key)
        where = point.get("coordinates") if isinstance(point, dict) else None
        if isinstance(where, list) and len(where) >= 2 and not isinstance(where[0], list):
            flat["longitude"], flat["latitude"] = where[:2]
            break
    for key, name in (("MAPLatitude", "latitude"), ("MAPLongitude", "longitude")):
        if key in flat:
            flat.setdefault(name, flat.pop(key))
    return {str(key): _text(value) for key, value in flat.items() if not isinstance(value, (dict, list))}


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _transposed(entries: list[dict[str, str]]) -> dict[str, list[str]]:
    keys = dict.fromkeys(key for entry in entries for key in entry)
    return {key: [entry.get(key, "") for entry in entries] for key in keys}


def _paths(columns: dict[str, list[str]], path: Path) -> list[Path]:
    name = column_named(columns, _PATH_COLUMNS, str(path))
    if name is not None:
        cells = columns[name]
        if "" in cells:
            row = cells.index("") + 1
            raise FIMPError(f"{path}: column {name!r} is empty in row {row}; name an image in every row")
        return [path.parent / cell for cell in cells]
    key = column_named(columns, ("id", "key"), str(path)) if path.suffix.lower() in _JSON else None
    if key is not None:
        return _by_name(columns[key], path.parent)
    found = ", ".join(list(columns)[:10]) or "nothing"
    raise FIMPError(f"{path}: no column 'path' among {found}; name the column of image files so")


def _by_name(keys: list[str], folder: Path) -> list[Path]:
    """The image of each key, by the ending that it has; ``KEY.jpg`` where there is none."""
    there = {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES}
    return [there.get(key, folder / f"{key}.jpg") for key in keys]


def column_named(columns: Iterable[str], names: Iterable[str], where: str) -> str | None:
    """The column of the first of ``names`` that there is, in capitals or not; None where there is none.

    Raises
    ------
    FIMPError
        If two columns differ in capitals only.
    """
    for name in names:
        if name in columns:
            return name
        found = [column for column in columns if column.lower() == name.lower()]
        if len(found) > 1:
            raise FIMPError(f"{where}: columns {found[0]!r} and {found[1]!r} are both {name!r}; rename one of them")
        if found:
            return found[0]
    return None


def _folder(folder: Path) -> PlaceTable:
    found = find_images(folder)
    tables = sorted(file for file in folder.rglob("*") if file.name in METADATA and file.is_file())
    notes = []
    columns: dict[str, list[str]] = {}
    if tables:
        read = [_table(file) for file in tables]
        paths = [path for table in read for path in table.paths]
        columns = _transposed([row for table in read for row in _rows(table)])
        if left := len(set(found) - set(paths)):
            notes.append(f"{left:,} images stand in no {' or '.join(METADATA)}: left out")
    else:
        paths = found
    if not paths:
        raise FIMPError(f"{tables[0]}: lists no images; wanted a row per image")
    return PlaceTable(str(folder), paths, columns | _of_folders(paths, folder, columns), notes)


def _rows(table: PlaceTable) -> list[dict[str, str]]:
    return [dict(zip(table.columns, cells, strict=True)) for cells in zip(*table.columns.values(), strict=True)]


def _of_folders(paths: list[Path], folder: Path, columns: dict[str, list[str]]) -> dict[str, list[str]]:
    """Split and label, as far as the folders that images lie in say so and no column does."""
    below = [list(path.relative_to(folder).parts[:-1]) if path.is_relative_to(folder) else [] for path in paths]
    parts = [PARTS.get(names[0].lower(), "") if names else "" for names in below]
    out = {}
    if all(parts):
        below = [names[1:] for names in below]
        if column_named(columns, ("split",), str(folder)) is None:
            out["split"] = parts
    labels = [names[-1] if names else "" for names in below]
    if all(labels) and len(set(labels)) > 1 and column_named(columns, ("label",), str(folder)) is None:
        out["label"] = labels
    return out
