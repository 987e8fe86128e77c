import numpy as np
import pandas as pd
import pytest

import fimp
from fimp.analysis.units import cell_units, cut_in_two, read_column, subject_units, two_of
from fimp.data.cells import CellOptions, load_cells
from fimp.data.columns import encode
from fimp.errors import FIMPError


@pytest.fixture
def column():
    return encode(pd.Series(["b", "a", None, "c", "a"]))


def test_two_values_are_chosen(column):
    groups, code = two_of(column, ("c", "a"), "group")
    assert groups == ("c", "a")
    assert code.tolist() == [-1, 1, -1, 0, 1]
    assert two_of(encode(pd.Series(["x", "y"])), None, "group")[1].tolist() == [0, 1]


def test_other_numbers_of_values_are_refused(column):
    with pytest.raises(FIMPError, match=r"'group' has 3 values \(a, b, c\), wanted two; choose two with --groups"):
        two_of(column, None, "group")
    with pytest.raises(FIMPError, match="'z' is no value of 'group'"):
        two_of(column, ("a", "z"), "group")


def test_numbers_are_cut_in_two():
    ages = encode(pd.Series(["70", "65", None, "31"], dtype=object))
    cut = cut_in_two(ages, 65, "age")
    assert [cut.names[code] if code >= 0 else None for code in cut.codes] == [
        "65 and above",
        "65 and above",
        None,
        "below 65",
    ]
    with pytest.raises(FIMPError, match="'name' holds no numbers"):
        cut_in_two(encode(pd.Series(["x", "y"])), 3, "name")


def test_cells_are_exchanged_by_section_or_else_by_block():
    adata = fimp.data.simulate.tissue(n_cells=120, n_genes=12, n_pairs=2)
    adata.obs["section"] = np.repeat(["s1", "s2", "s3", "s4"], 30)
    sections = load_cells(adata, CellOptions(section="section"))
    by_section = np.repeat([0, 1, 0, 1], 30)
    units = cell_units(sections, ("a", "b"), by_section)
    assert (units.what, units.count) == ("sections", 4)
    mixed = np.arange(120) % 2
    units = cell_units(sections, ("a", "b"), mixed, blocks=2)
    assert (units.what, units.count) == ("spatial blocks", 16)
    for unit in range(16):
        inside = units.unit == unit
        assert 1 <= inside.sum() <= 15
        assert len(set(sections.section.numpy()[inside])) == 1
    animals = encode(pd.Series(np.repeat(["m1", "m2"], 60)))
    assert cell_units(sections, ("a", "b"), mixed, animals).count == 2


def test_blocks_are_contiguous_pieces():
    data = load_cells(fimp.data.simulate.tissue(n_cells=400, n_genes=12, n_pairs=2))
    units = cell_units(data, ("a", "b"), np.arange(400) % 2, blocks=4)
    position = data.pos.numpy()
    spread = [position[units.unit == unit].std(0).max() for unit in range(16)]
    assert max(spread) < 0.4 * position.std(0).max()
    with pytest.raises(FIMPError, match="--blocks: 1 is below 2"):
        cell_units(data, ("a", "b"), np.arange(400) % 2, blocks=1)


def test_cells_without_places_or_sections_cannot_be_exchanged():
    adata = fimp.data.simulate.tissue(n_cells=40, n_genes=12, n_pairs=2)
    del adata.obsm["spatial"]
    with pytest.raises(FIMPError, match="name independent units by --unit"):
        cell_units(load_cells(adata), ("a", "b"), np.arange(40) % 2)


def test_recordings_are_exchanged_by_subject(tmp_path):
    scans = fimp.data.simulate.recordings(tmp_path, n_subjects=3, n_regions=6, n_times=40, bond=0.5)
    model = fimp.RecordingModel(scans, window=20, patch=5, neighbors=2, dim=16, layers=1)
    task = model.task_on(None)
    table = read_column(scans / "tables" / "subjects.csv", "group", ("subject",), "--subjects")
    assert table == {"sub-01": "plain", "sub-02": "bonded", "sub-03": "plain"}
    units = subject_units(task, ("plain", "bonded"), {"sub-01": 0, "sub-02": 1})
    assert units.count == 3
    per_subject = 2 * 6
    assert units.unit.tolist() == [0] * per_subject + [1] * per_subject + [2] * per_subject
    assert units.group.tolist() == [0] * per_subject + [1] * per_subject + [-1] * per_subject
    with pytest.raises(FIMPError, match="names none of the recorded subjects"):
        subject_units(task, ("plain", "bonded"), {"someone": 0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("who,age\na,3\n", "has no column 'subject', found who, age"),
        ("subject,size\na,3\n", "has no column 'age', found subject, size"),
        ("subject,age\na,3\na,4\n", "has two rows for 'a'"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(FIMPError, match=message):
        read_column(tmp_path / "t.csv", "age", ("subject",), "--subjects")


def test_a_table_that_is_none_is_refused(tmp_path):
    with pytest.raises(FIMPError, match="cannot be read as a table"):
        read_column(tmp_path / "none.csv", "age", ("subject",), "--subjects")
