from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimp.data.cells import CellOptions, load_cells
from fimp.data.graphs import knn_graph
from fimp.data.splits import block_split, check_size, crop, random_split, section_split, split_nodes
from fimp.errors import FIMPError

sizes = st.integers(10, 400)
seeds = st.integers(0, 10**6)


def space(count, seed=0, dimensions=2):
    return np.random.default_rng(seed).uniform(size=(count, dimensions))


def is_a_split(parts, count):
    train, val, test = parts
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(count))
    assert abs(len(train) - 0.7 * count) <= 1
    assert abs(len(val) - 0.1 * count) <= 1
    assert abs(len(test) - 0.2 * count) <= 1
    assert min(map(len, parts)) >= 1


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@given(sizes, seeds)
def test_random_split_is_disjoint_complete_70_10_20_and_repeats(count, seed):
    parts = random_split(count, seed)
    is_a_split(parts, count)
    assert same(parts, random_split(count, seed))


def test_seeds_give_other_splits():
    assert not same(random_split(100, 0), random_split(100, 1))
    assert not same(block_split(space(400), 0), block_split(space(400), 1))


@given(sizes, seeds, st.integers(2, 3))
def test_block_split_is_disjoint_complete_70_10_20_and_repeats(count, seed, dimensions):
    positions = space(count, seed, dimensions)
    parts = block_split(positions, seed)
    is_a_split(parts, count)
    assert same(parts, block_split(positions, seed))


@pytest.mark.parametrize("positions", [np.zeros((50, 2)), np.c_[np.arange(50.0), np.zeros(50)]])
def test_block_split_of_a_point_or_a_line(positions):
    is_a_split(block_split(positions, 0), 50)


def test_blocks_keep_neighbours_together():
    positions = space(2000)
    source, destination = knn_graph(positions, 6).numpy()

    def crossing(parts):
        part = np.empty(2000, int)
        for index, nodes in enumerate(parts):
            part[nodes] = index
        return (part[source] != part[destination]).mean()

    # A random split cuts 1 - (0.49 + 0.01 + 0.04) = 46 % of all edges.
    assert crossing(random_split(2000, 0)) > 0.4
    assert crossing(block_split(positions, 0)) < 0.6 * crossing(random_split(2000, 0))


def test_only_the_blocks_at_the_two_seams_are_divided():
    # A 10 x 10 grid of blocks with 9 nodes each.
    grid = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0)), -1).reshape(-1, 2)
    part = np.empty(900, int)
    for index, nodes in enumerate(block_split(grid, 3)):
        part[nodes] = index
    block = (grid[:, 0] // 3 * 10 + grid[:, 1] // 3).astype(int)
    divided = sum(len(set(part[block == number])) > 1 for number in range(100))
    assert divided <= 2


@given(st.integers(1, 300), st.floats(0.01, 1.0), seeds, st.integers(2, 3))
def test_a_crop_is_a_ball_around_one_of_its_nodes(count, fraction, seed, dimensions):
    positions = space(count, 1, dimensions)
    kept = crop(positions, fraction, seed)
    assert len(kept) == max(1, round(fraction * count))
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(kept, crop(positions, fraction, seed))
    inside = np.zeros(count, bool)
    inside[kept] = True
    distance = np.linalg.norm(positions[kept][:, None] - positions[None], axis=-1)
    # For some kept node, every kept node is nearer than every other.
    assert any(row[inside].max() <= row[~inside].min(initial=np.inf) + 1e-12 for row in distance)


def test_seeds_crop_in_different_places():
    positions = space(500)
    assert len({tuple(crop(positions, 0.05, seed)) for seed in range(5)}) == 5


def test_crop_of_everything_keeps_everything():
    np.testing.assert_array_equal(crop(space(30), 1.0), np.arange(30))


def test_fewer_than_ten_cells_are_too_few_and_ten_are_enough():
    check_size(10, "tissue.h5ad")
    with pytest.raises(FIMPError, match=r"tissue.h5ad: 9 cells are too few.*at least 10"):
        check_size(9, "tissue.h5ad")


@given(st.lists(st.booleans(), min_size=8, max_size=200), seeds)
def test_held_out_nodes_are_the_test_part_and_the_others_are_dealt_7_to_1(flags, seed):
    held_out = np.array([*flags, *[False] * 8])
    train, val, test = section_split(held_out, seed)
    np.testing.assert_array_equal(test, np.flatnonzero(held_out))
    np.testing.assert_array_equal(np.sort(np.concatenate([train, val])), np.flatnonzero(~held_out))
    assert abs(len(train) - 0.875 * (~held_out).sum()) <= 0.5
    assert len(val) >= 1
    assert same((train, val, test), section_split(held_out, seed))


def test_what_is_split_how_is_decided_in_one_place(small_adata):
    random, blocks = SimpleNamespace(split="random"), SimpleNamespace(split="blocks")
    data = load_cells(small_adata)
    assert same(split_nodes(data, random, 3).values(), random_split(30, 3))
    assert same(split_nodes(data, blocks, 3).values(), block_split(data.pos.numpy(), 3))
    small_adata.obs["slice"] = ["a", "b", "c"] * 10
    held = load_cells(small_adata, CellOptions(test_section=("b",)))
    assert same(split_nodes(held, random, 3).values(), section_split(held.held_out.numpy(), 3))
    for seed in (0, 1):
        assert split_nodes(held, random, seed)["test"].tolist() == list(range(1, 30, 3))
    some = np.arange(5, 25)
    parts = split_nodes(data, random, 3, some)
    np.testing.assert_array_equal(np.sort(np.concatenate(list(parts.values()))), some)
    with pytest.raises(FIMPError, match="only cells of test sections have a label"):
        split_nodes(held, random, 3, np.arange(1, 30, 3))
    with pytest.raises(FIMPError, match="--split blocks and --test-section"):
        split_nodes(held, blocks, 3)
    with pytest.raises(FIMPError, match=r"--test-section leaves 7 cells with a label.*wanted at least 8"):
        split_nodes(held, random, 3, np.setdiff1d(np.arange(18), np.arange(2, 18, 3)[:5]))
    least = split_nodes(held, random, 3, np.setdiff1d(np.arange(18), np.arange(2, 18, 3)[:4]))
    assert [len(least[part]) for part in ("train", "val", "test")] == [7, 1, 6]
    del small_adata.obsm["spatial"]
    with pytest.raises(FIMPError, match="--split blocks needs coordinates"):
        split_nodes(load_cells(small_adata), blocks, 3)
