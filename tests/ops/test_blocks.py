import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fimp.ops._blocks import blocks


@given(
    seed=st.integers(0, 10_000),
    edges=st.integers(0, 40),
    sources=st.integers(1, 9),
    destinations=st.integers(1, 9),
    chunk=st.integers(1, 12),
)
@settings(max_examples=60, deadline=None)
def test_every_edge_is_in_one_block_that_is_no_larger_than_asked(seed, edges, sources, destinations, chunk):
    generator = torch.Generator().manual_seed(seed)
    src = torch.randint(sources, (edges,), generator=generator)
    dst = torch.randint(destinations, (edges,), generator=generator)
    by_source, found = blocks(torch.stack([src, dst]), sources, destinations, chunk)
    seen = []
    for block in found:
        assert block.edge.numel() <= chunk
        assert (block.src if by_source else block.dst).size(1) == 1
        one, other = torch.broadcast_tensors(block.src, block.dst)
        for edge, j, i in zip(block.edge.flatten(), one.flatten(), other.flatten(), strict=True):
            if edge == edges:
                # Padding: joined to the empty node behind the last.
                assert (i == destinations) if by_source else (j == sources)
            else:
                assert (src[edge], dst[edge]) == (j, i)
                seen.append(int(edge))
    assert sorted(seen) == list(range(edges))


def test_the_side_of_fewer_nodes_stands_in_the_middle():
    few, many = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2, 3])
    assert blocks(torch.stack([few, many]), 2, 4, 8)[0]
    assert not blocks(torch.stack([many, few]), 4, 2, 8)[0]


def test_a_node_is_in_the_middle_of_a_block_once():
    # What the middle is given is then written without a conflict.
    src = torch.zeros(10, dtype=torch.int64)
    _, found = blocks(torch.stack([src, torch.arange(10)]), 1, 10, 4)
    assert [block.src.size(0) for block in found] == [1, 1, 1]
