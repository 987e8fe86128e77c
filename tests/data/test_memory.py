import psutil
import pytest

from fimp.data.memory import free_memory, memory_budget, parse_bytes
from fimp.errors import FIMPError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(17, 17), ("4GiB", 2**32), ("4 gb", 4 * 10**9), ("1.5k", 1500), ("2MiB", 2**21), ("12 B", 12), ("1T", 10**12)],
)
def test_sizes_are_read_as_written(text, wanted):
    assert parse_bytes(text) == wanted


@pytest.mark.parametrize("text", ["", "GiB", "-1", 0, "4 pounds", "nan", "0.1"])
def test_what_is_no_size_is_named(text):
    with pytest.raises(FIMPError, match=r"tmp_budget: .* use bytes"):
        parse_bytes(text, "tmp_budget")


def test_free_memory_is_some_of_the_memory():
    assert 0 < free_memory() <= psutil.virtual_memory().total


def test_the_budget_is_what_the_environment_says_or_half_of_what_is_free(monkeypatch):
    monkeypatch.setenv("FIMP_MEMORY_BUDGET", "3 MiB")
    assert memory_budget() == 3 * 2**20
    monkeypatch.setenv("FIMP_MEMORY_BUDGET", "much")
    with pytest.raises(FIMPError, match="FIMP_MEMORY_BUDGET: 'much' is no size"):
        memory_budget()
    monkeypatch.delenv("FIMP_MEMORY_BUDGET")
    assert 0 < memory_budget() <= psutil.virtual_memory().total // 2
