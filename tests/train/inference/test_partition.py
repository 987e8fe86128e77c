import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fimp.errors import FIMPError
from fimp.train.inference.partition import Partition, stretches

SCRIPT = Path(__file__).with_name("partitioned.py")
_spec = importlib.util.spec_from_file_location("partitioned", SCRIPT)
partitioned = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(partitioned)


@pytest.mark.parametrize("processes", [3])
def test_processes_that_share_nodes_find_what_one_finds(tmp_path, processes):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    subprocess.run([sys.executable, *command, str(SCRIPT), str(tmp_path)], check=True, timeout=600)
    wanted = partitioned.infer(budget="1 GB")
    for rank in range(processes):
        for found in torch.load(tmp_path / f"{rank}.pt", weights_only=True):
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@given(degree=st.lists(st.sampled_from([0, 1, 2, 500]), min_size=1, max_size=40), processes=st.integers(1, 6))
def test_every_process_gets_nodes_and_their_edges_are_shared_out(degree, processes):
    degree = np.array(degree)
    if len(degree) < processes:
        with pytest.raises(FIMPError, match="group: "):
            stretches(degree, processes)
        return
    bounds = stretches(degree, processes)
    assert (bounds[0], bounds[-1], len(bounds)) == (0, len(degree), processes + 1)
    assert (np.diff(bounds) >= 1).all()
    if len(set(degree)) == 1 and len(degree) >= 4 * processes:
        assert np.diff(bounds).max() <= 1 + len(degree) / processes


def test_one_process_has_all_nodes_in_order_and_no_halo():
    order = np.array([2, 0, 3, 1])
    part = Partition(torch.tensor([[0, 1, 2], [3, 3, 0]]), order, torch.tensor([1.0, 2.0, 3.0]), None)
    assert part.own == 4
    assert part.nodes.tolist() == order.tolist()
    # Node 0 has place 1 and hears node 2 (place 0); node 3 has place 2 and hears nodes 0 and 1 (places 1 and 3).
    assert part.edges.of(np.array([1]))[0].tolist() == [0]
    assert part.edges.sources.tolist() == [0, 1, 3]
    assert part.edge_weight.tolist() == [3.0, 1.0, 2.0]
