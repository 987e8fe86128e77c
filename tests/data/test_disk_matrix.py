import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from fimp.data import disk_matrix as module
from fimp.data.disk_matrix import (
    DiskMatrix,
    column_sums,
    map_rows,
    row_blocks,
    row_sums,
    spans,
    stack_rows,
    take_rows,
)
from fimp.errors import FIMPError


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(module, "ENTRIES", 40)


@pytest.fixture
def values():
    matrix = sparse.random(60, 9, 0.3, dtype=np.float32, random_state=0).toarray()
    matrix[[0, 7, 8, 59]] = 0
    return sparse.csr_matrix(matrix)


@pytest.fixture
def stored(values):
    return DiskMatrix.write((values[start : start + 7] for start in range(0, 60, 7)), 9)


def same(found, wanted):
    found = found[np.arange(found.shape[0])] if isinstance(found, DiskMatrix) else found
    assert found.shape == wanted.shape
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(found, part), getattr(wanted, part))


def test_rows_come_back_in_any_order_and_as_often_as_asked(stored, values):
    same(stored, values)
    assert (stored.shape, stored.nnz) == (values.shape, values.nnz)
    for rows in ([], [5], [59, 0], [3, 4, 5, 9, 10], [7, 7, 2, 59, 2], range(60)):
        rows = np.array(rows, dtype=np.int64)
        same(stored[rows], values[rows])
    chosen = np.arange(60) % 3 == 0
    same(stored[chosen], values[chosen])


@given(st.lists(st.integers(0, 100), max_size=30))
def test_spans_cover_every_row_once_within_the_limit(counts):
    indptr = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
    found = [*spans(indptr)]
    assert [row for part in found for row in range(part.start, part.stop)] == [*range(len(counts))]
    for part in found:
        assert part.stop == part.start + 1 or indptr[part.stop] - indptr[part.start] <= 40


@pytest.mark.parametrize("rows", [None, np.array([50, 3, 3, 7, 20])])
def test_blocks_are_the_same_in_memory_and_on_disk(stored, values, rows):
    pairs = [*zip(row_blocks(stored, rows), row_blocks(values, rows), strict=True)]
    assert len(pairs) > 1 or rows is not None
    for (here, one), (there, other) in pairs:
        assert here == there
        same(one, other)
    np.testing.assert_array_equal(column_sums(stored, rows), column_sums(values, rows))
    np.testing.assert_array_equal(column_sums(values, counts=True), np.diff(values.tocsc().indptr))
    np.testing.assert_array_equal(row_sums(stored), np.asarray(values.sum(1)).ravel())


def test_what_is_made_of_rows_on_disk_is_on_disk(stored, values):
    weight = np.arange(60)

    def scaled(block, rows):
        out = block.copy()
        out.data *= np.repeat(weight[rows], np.diff(block.indptr))
        return out[:, :4].tocsr()

    found, wanted = map_rows(stored, scaled, 4), map_rows(values, scaled, 4)
    assert isinstance(found, DiskMatrix)
    same(found, wanted)
    rows = np.array([9, 2, 2, 30])
    assert isinstance(take_rows(stored, rows), DiskMatrix)
    same(take_rows(stored, rows), values[rows])
    both = stack_rows([values, stored])
    assert isinstance(both, DiskMatrix)
    same(both, sparse.vstack([values, values], format="csr"))
    assert sparse.issparse(stack_rows([values, values]))


def test_the_file_has_no_name_and_is_closed_with_the_matrix(values, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stored = DiskMatrix.write([values], 9)
    file = stored._file
    assert not [*tmp_path.iterdir()]
    assert not file.closed
    del stored
    assert file.closed


def test_no_room_names_the_folder_and_the_remedy(values, monkeypatch):
    class Full:
        def write(self, _):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(module, "open_temporary", Full)
    with pytest.raises(FIMPError, match=r"No space left on device\); set TMPDIR .* FIMP_MEMORY_BUDGET"):
        DiskMatrix.write([values], 9)


def test_a_folder_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    with pytest.raises(FIMPError, match="No such file"):
        DiskMatrix(3)
