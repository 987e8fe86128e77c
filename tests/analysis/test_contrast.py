import numpy as np
import pytest
import torch

import fimp
from fimp.analysis.attention import Ledger, collect
from fimp.analysis.contrast import ContrastSums
from fimp.analysis.stream import EdgeChoice
from fimp.analysis.token_names import token_names
from fimp.analysis.units import Units, read_column, subject_units
from fimp.data.splits import spatial_blocks
from fimp.errors import FIMPError
from fimp.tasks.attention import EdgeAttention


def filled(units, values):
    """Sums of one edge from each node to itself, with a value per node and pair of two tokens ``[N, 2, 2]``."""
    sums = ContrastSums(units, 2, 2)
    nodes = torch.arange(len(values))
    names = torch.arange(2).expand(len(values), -1)
    part = EdgeAttention(torch.from_numpy(values), names, names, torch.stack([nodes, nodes]))
    sums.sums.add(part, sums.layer_of(part.edges))
    return sums


def test_groups_are_compared_within_units_that_have_both():
    rng = np.random.default_rng(0)
    unit, group = np.repeat(np.arange(12), 10), np.tile([0, 1], 60)
    # Units differ by far more than groups do.
    values = 10.0 * rng.normal(size=(12, 1, 1)).repeat(10, 0).reshape(120, 1, 1) + 0.1 * rng.normal(size=(120, 2, 2))
    values[group == 0, 0, 1] += 0.5
    found = filled(Units(("a", "b"), group, unit, 12, "sections"), values).contrast()
    assert found.note.startswith("groups compared within 12 sections")
    assert found.difference[0, 1] == pytest.approx(0.5, abs=0.1)
    assert (found.q < 0.05).tolist() == [[False, True], [False, False]]


def test_units_of_one_group_exchange_their_groups():
    rng = np.random.default_rng(0)
    unit = np.repeat(np.arange(16), 10)
    group = unit % 2
    values = rng.normal(size=(16, 2, 2)).repeat(10, 0)
    values[group == 1, 1, 0] -= 4.0
    # Cells of neither group have no part.
    group = np.where(np.arange(160) % 10 == 0, -1, group)
    values[group == -1] = 1e6
    found = filled(Units(("a", "b"), group, unit, 16, "animals"), values).contrast()
    assert found.note.startswith("8 and 8 animals exchanged their groups")
    assert (found.q < 0.05).tolist() == [[False, False], [True, False]]
    assert np.abs(found.difference).max() < 10


def test_too_few_units_are_refused():
    units = Units(("a", "b"), np.array([0, 0, 1]), np.arange(3), 3, "sections")
    with pytest.raises(FIMPError, match="2 and 1 sections are of 'a' and 'b', wanted at least 2 each"):
        filled(units, np.zeros((3, 2, 2))).contrast()


def smooth(rng, positions, width):
    """A random field on positions ``[N, 2]`` that agrees over a width."""
    centres = rng.uniform(0, 30, (60, 2))
    near = np.exp(-np.square((positions[:, None] - centres) / width).sum(2) / 2)
    return near @ rng.normal(size=60)


def test_blocks_are_calibrated_where_single_cells_are_not():
    """Cells in random groups by patches of tissue, and attention that is smooth in space: nothing to be found."""
    grid = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0)), -1).reshape(-1, 2)
    shares = {"blocks": [], "cells": []}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        group = (smooth(rng, grid, 1.0) > 0).astype(np.int64)
        values = np.stack([smooth(rng, grid, 1.0) for _ in range(4)], 1).reshape(-1, 2, 2)
        for name, unit, count in (("blocks", spatial_blocks(grid, 6), 36), ("cells", np.arange(900), 900)):
            found = filled(Units(("a", "b"), group, unit, count, name), values).contrast(199, seed)
            shares[name].append((found.p < 0.05).mean())
    assert np.mean(shares["blocks"]) < 0.1
    assert np.mean(shares["cells"]) > 0.2


def recorded(folder, bond, seed, subjects, times):
    """Contrast of networks in simulated recordings, by a model that has not been trained."""
    scans = fimp.data.simulate.recordings(folder, subjects, n_regions=20, n_times=times, bond=bond, seed=seed)
    model = fimp.RecordingModel(scans, window=80, patch=10, neighbors=6, dim=16, layers=1, seed=seed)
    task, tables = model.task_on(None), scans / "tables"
    networks = read_column(tables / "networks.csv", "network", ("region",), "--group-by")
    of_subject = read_column(tables / "subjects.csv", "group", ("subject",), "--subjects")
    code = {name: int(group == "plain") for name, group in of_subject.items()}
    names = token_names(model, task, networks)
    sums = ContrastSums(subject_units(task, ("bonded", "plain"), code), len(names.rows), len(names.columns))
    collect(model, task, names, EdgeChoice(), ledgers=[Ledger(sums.sums, sums.layer_of)])
    return names, sums.contrast()


def test_a_planted_group_effect_is_found_in_recordings(tmp_path):
    names, found = recorded(tmp_path, bond=1.0, seed=0, subjects=20, times=240)
    right, left = names.rows.index("right"), names.rows.index("left")
    # All regions to the right hear the left of a bonded subject, so they agree with it and with each other.
    assert found.q[right, right] < 0.05
    assert found.difference[right, right] > 0
    assert min(found.q[left, right], found.q[right, left]) < 0.05


def test_nothing_is_found_in_recordings_that_differ_by_name(tmp_path):
    p = [recorded(tmp_path / str(seed), 0.0, seed, subjects=8, times=80)[1].p for seed in range(4)]
    assert (np.stack(p) < 0.05).mean() < 0.25
