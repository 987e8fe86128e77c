import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

from fimp.data.place_splits import split_places
from fimp.errors import FIMPError


def graph(count, groups=None, places=None, y=None):
    generator = np.random.default_rng(count)
    columns = {"groups": groups, "places": places}
    return Data(
        y=torch.arange(count) % 2 if y is None else torch.as_tensor(y),
        latitude=torch.from_numpy(generator.uniform(29, 31, count)),
        longitude=torch.from_numpy(generator.uniform(-96, -94, count)),
        num_nodes=count,
        name="t",
        notes=[],
        **{key: torch.as_tensor(value) for key, value in columns.items() if value is not None},
    )


def checked(data, seed):
    """A split, after all that holds for every one: no node twice, all labelled nodes, no empty part."""
    parts = split_places(data, seed)
    assert list(parts) == ["train", "val", "test"]
    together = np.concatenate(list(parts.values()))
    assert np.array_equal(np.sort(together), np.flatnonzero(data.y >= 0))
    for part in parts.values():
        assert part.size
        assert (np.diff(part) > 0).all()
    again = split_places(data, seed)
    assert all(np.array_equal(again[name], parts[name]) for name in parts)
    return parts


def in_one_part(parts, codes):
    held = [set(np.asarray(codes)[part].tolist()) - {-1} for part in parts.values()]
    return not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])


def shares(parts):
    sizes = np.array([len(part) for part in parts.values()])
    return sizes / sizes.sum()


@given(st.lists(st.integers(-1, 9), min_size=10, max_size=60), st.integers(0, 99))
def test_groups_stay_together(groups, seed):
    data = graph(len(groups), groups=groups)
    parts = checked(data, seed)
    if len(set(groups) - {-1}) + groups.count(-1) >= 3:
        assert in_one_part(parts, groups)
        assert not data.notes
    else:
        assert data.notes


def test_many_groups_meet_the_shares_and_seeds_differ():
    groups = np.random.default_rng(0).integers(0, 60, 1000)
    first, second = (checked(graph(1000, groups=groups), seed) for seed in (0, 1))
    assert np.abs(shares(first) - [0.7, 0.1, 0.2]).max() < 0.02
    assert not np.array_equal(first["test"], second["test"])


def test_a_large_group_goes_where_it_fits():
    # As the regions of the satellite chips.
    sizes = [1206, 538, 424, 198, 112, 86, 40, 24]
    parts = checked(graph(2628, groups=np.repeat(np.arange(8), sizes)), 0)
    assert np.abs(shares(parts) - [0.7, 0.1, 0.2]).max() < 0.06


def test_a_place_with_images_in_two_groups_joins_them():
    groups = np.repeat(np.arange(5), 4)
    places = np.where(np.isin(np.arange(20), (3, 4)), 0, -1)
    parts = checked(graph(20, groups=groups, places=places), 3)
    assert in_one_part(parts, groups)
    assert in_one_part(parts, places)


@pytest.mark.parametrize("groups", [None, [0] * 30 + [1] * 30])
@pytest.mark.parametrize("seed", [0, 1])
def test_blocks_of_places_where_groups_are_too_few(groups, seed):
    places = np.repeat(np.arange(20), 3)
    data = graph(60, groups=groups, places=places)
    parts = checked(data, seed)
    assert in_one_part(parts, places)
    assert np.abs(shares(parts) - [0.7, 0.1, 0.2]).max() < 1e-9
    # Once, however often it is split.
    assert len(data.notes) == 1
    assert "blocks of neighbouring places" in data.notes[0]
    assert ("2 separate groups are fewer than 3 parts" in data.notes[0]) == (groups is not None)


def test_blocks_hold_neighbours():
    data = graph(900, places=np.arange(900))
    parts = checked(data, 0)
    where = np.stack([data.latitude, data.longitude], axis=1)
    part = np.zeros(900)
    part[parts["test"]] = 1
    distance = np.linalg.norm(where[:, None] - where[None], axis=2) + 9 * np.eye(900)
    assert part[distance[parts["test"]].argmin(axis=1)].mean() > 0.6


def test_images_at_one_point_are_of_one_place_where_places_have_no_names():
    data = graph(60, groups=[0] * 60)
    data.latitude = data.latitude[torch.arange(60) // 2]
    data.longitude = data.longitude[torch.arange(60) // 2]
    assert in_one_part(checked(data, 0), np.arange(60) // 2)


@given(st.integers(3, 60), st.integers(0, 99))
def test_without_groups_and_places_images_are_drawn(count, seed):
    data = graph(count)
    parts = checked(data, seed)
    assert not data.notes
    if count >= 10:
        assert abs(len(parts["train"]) - 0.7 * count) <= 1


def test_only_labelled_images_are_split():
    y = np.arange(40) % 3 - 1
    checked(graph(40, y=y), 0)
    checked(graph(40, y=y, places=np.arange(40) // 2), 0)
    checked(graph(40, y=y, groups=np.arange(40) // 5), 0)


def test_a_published_split_is_the_same_for_every_seed():
    data = graph(12, groups=[0] * 12)
    for number, name in enumerate(("train_mask", "val_mask", "test_mask")):
        data[name] = torch.arange(12) // 4 == number
    for seed in (0, 1):
        parts = checked(data, seed)
        assert parts["val"].tolist() == [4, 5, 6, 7]
    assert not data.notes


@pytest.mark.parametrize("columns", [{}, {"places": [0] * 12}, {"groups": [0] * 12, "places": [0] * 6 + [1] * 6}])
def test_too_few_to_split(columns):
    data = graph(12, **columns) if columns else graph(2)
    with pytest.raises(FIMPError, match="are too few for training, validation and test"):
        split_places(data, 0)
