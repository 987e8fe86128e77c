import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fimp.errors import FIMPError
from fimp.train.workers import run_all


@dataclass(frozen=True)
class Work:
    index: int
    what: str = "square"

    @property
    def title(self):
        return f"work {self.index}"

    def run(self, listener):
        listener(0.5, "half")
        if self.what == "mistake":
            raise FIMPError("the file is wrong")
        if self.what == "bug":
            raise ZeroDivisionError
        if self.what == "killed":
            os._exit(9)
        if self.what == "slow":
            time.sleep(300)
        return self.index**2, os.getpid()


def do(jobs, count):
    heard = []
    pairs = run_all(jobs, count, heard.append, lambda job, share, text: heard.append((job.index, share, text)))
    return {job.index: result for job, result in pairs}, heard


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """New processes look for this file under the name that pytest gave it."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2])


@pytest.mark.parametrize("count", [1, 2])
def test_all_jobs_are_done_and_heard_of(count):
    results, heard = do([Work(index) for index in range(5)], count)
    assert {index: square for index, (square, _) in results.items()} == {0: 0, 1: 1, 2: 4, 3: 9, 4: 16}
    assert all(Work(index) in heard and (index, 0.5, "half") in heard for index in range(5))
    assert len({pid for _, pid in results.values()} | {os.getpid()}) == (1 if count == 1 else 3)


@pytest.mark.parametrize("count", [1, 2])
def test_a_mistake_reaches_the_caller_and_ends_the_others(count):
    begun = time.monotonic()
    with pytest.raises(FIMPError, match="the file is wrong"):
        do([Work(0, "mistake"), Work(1, "slow")], count)
    assert time.monotonic() - begun < 150


def test_a_bug_comes_with_its_traceback():
    with pytest.raises(RuntimeError, match=r"work 1 failed:\n(.|\n)*ZeroDivisionError"):
        do([Work(0), Work(1, "bug")], 2)


def test_a_process_that_was_ended_is_named():
    with pytest.raises(FIMPError, match=r"work 1: its process ended with code 9.*--jobs"):
        do([Work(0), Work(1, "killed")], 2)
