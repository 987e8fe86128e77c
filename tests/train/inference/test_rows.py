import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fimp.errors import FIMPError
from fimp.train.inference.rows import FileRows, MemoryRows, RowStore, pack, unpack


@given(seed=st.integers(0, 1000), dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
@settings(max_examples=25, deadline=None)
def test_files_and_memory_hold_the_same_rows(tmp_path_factory, seed, dtype):
    generator = np.random.default_rng(seed)
    kinds = [MemoryRows(50, 6, dtype), FileRows(50, 6, dtype, tmp_path_factory.getbasetemp())]
    torch.manual_seed(seed)
    content = torch.randn(50, 6).to(dtype)
    for rows in kinds:
        for start in range(0, 50, 13):
            rows.write(start, content[start : start + 13])
    for size in (0, 1, 20, 50):
        some = np.sort(generator.choice(50, size, replace=False))
        for rows in kinds:
            assert torch.equal(rows.gather(some), content[some])


def test_rows_beyond_the_budget_are_in_files_which_leave_nothing(tmp_path):
    with RowStore(tmp_path) as store:
        store.left = 100
        first, second, third = (store.rows(10, width, torch.float32) for width in (2, 1, 1))
        assert [type(rows) for rows in (first, second, third)] == [MemoryRows, FileRows, FileRows]
        store.close(first)
        assert isinstance(store.rows(10, 2, torch.float32), MemoryRows)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        third.gather(np.arange(2))


def test_a_disk_without_room_is_named(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1000))
    with pytest.raises(FIMPError, match=r"folder: .* free, wanted 0.0 GiB"):
        FileRows(1000, 10, torch.float32, tmp_path)


def test_packed_tensors_come_back():
    tensors = (torch.randn(4, 2, 3), torch.randn(4, 5), torch.randn(4, 1, 1, 2))
    shapes = tuple(tensor.shape[1:] for tensor in tensors)
    for found, wanted in zip(unpack(pack(tensors), shapes), tensors, strict=True):
        assert torch.equal(found, wanted)
