import threading

import pytest
import torch

from fimp.ops._threads import in_parallel


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_every_part_is_done_once_and_the_number_of_threads_stays(threads, number):
    threads(number)
    done = []
    in_parallel(done.append, 7)
    assert sorted(done) == list(range(7))
    assert torch.get_num_threads() == number
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [number]


def test_parts_run_at_the_same_time_each_with_its_share_of_threads(threads):
    threads(2)
    meeting, shares = threading.Barrier(2, timeout=60), []

    def work(index):
        meeting.wait()
        shares.append(torch.get_num_threads())

    in_parallel(work, 2)
    assert shares == [1, 1]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_parts_work_on_tensors_of_the_callers_mode_without_gradients(threads, mode):
    threads(2)
    weight = torch.ones(2, requires_grad=True)
    with mode():
        out = torch.zeros(2)

        def work(index):
            out[index] += (weight * (index + 1)).sum()

        in_parallel(work, 2)
    assert out.tolist() == [2.0, 4.0]
    assert not out.requires_grad


def test_what_a_part_raises_is_raised(threads):
    threads(2)

    def work(index):
        raise ValueError(f"part {index}")

    with pytest.raises(ValueError, match="part 0"):
        in_parallel(work, 2)
    assert torch.get_num_threads() == 2
