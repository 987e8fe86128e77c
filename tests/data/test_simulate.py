import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimp.data.cells import load_cells
from fimp.data.graphs import knn_graph
from fimp.data.simulate import recording, sides, tissue
from fimp.errors import FIMPError


def heard_and_expressed(adata, pair):
    """Per receiver next to a sender: mean ligand log count around it, and its own receptor's log count."""
    planted = adata.uns["planted_pairs"]
    kind = adata.obs["cell_type"].to_numpy()
    logs = np.log1p(adata.X.toarray())
    logs = logs - np.log(logs.sum(1, keepdims=True))
    genes = adata.var_names
    ligand = logs[:, genes.get_loc(planted["ligand"][pair])]
    receptor = logs[:, genes.get_loc(planted["receptor"][pair])]
    source, destination = knn_graph(adata.obsm["spatial"], 8).numpy()
    sends = kind[source] == planted["sender"][pair]
    count = np.bincount(destination[sends], minlength=adata.n_obs)
    heard = np.bincount(destination[sends], weights=ligand[source[sends]], minlength=adata.n_obs) / np.maximum(count, 1)
    use = (kind == planted["receiver"][pair]) & (count > 0)
    return heard[use], receptor[use]


def mean_correlation(adata):
    pairs = range(len(adata.uns["planted_pairs"]["ligand"]))
    return np.mean([np.corrcoef(*heard_and_expressed(adata, pair))[0, 1] for pair in pairs])


def test_contents_are_documented_ones():
    adata = tissue(n_cells=200, n_genes=20, n_types=3, n_pairs=4)
    assert adata.shape == (200, 20)
    counts = adata.X.toarray()
    assert (counts >= 0).all()
    assert (counts == np.rint(counts)).all()
    assert adata.obsm["spatial"].shape == (200, 2)
    planted = adata.uns["planted_pairs"]
    assert set(planted) == {"ligand", "receptor", "sender", "receiver"}
    assert [len(part) for part in planted.values()] == [4] * 4
    assert set(planted["ligand"]) | set(planted["receptor"]) <= set(adata.var_names)
    assert set(planted["sender"]) | set(planted["receiver"]) <= set(adata.obs["cell_type"].cat.categories)
    assert (planted["sender"] != planted["receiver"]).all()


@settings(max_examples=15)
@given(st.integers(10, 80), st.integers(2, 5), st.integers(1, 4), st.integers(0, 6), st.integers(0, 999))
def test_a_seed_fixes_everything_and_any_size_that_fits_is_legal(cells, types, pairs, markers, seed):
    first, second = (tissue(cells, 2 * pairs + markers, types, pairs, seed=seed) for _ in range(2))
    assert first.shape == (cells, 2 * pairs + markers)
    assert (first.X != second.X).nnz == 0
    assert first.obs.equals(second.obs)
    assert not first.var_names.has_duplicates


def test_other_seeds_give_other_tissues():
    assert (tissue(100, seed=0).X != tissue(100, seed=1).X).nnz > 0


def test_receptors_follow_the_ligand_of_neighbouring_senders_only_where_planted():
    assert mean_correlation(tissue(1000, strength=1.0)) > 0.4
    assert abs(mean_correlation(tissue(1000, strength=0.0))) < 0.12


def test_nothing_inside_the_receiver_tells_its_receptor():
    # The graph is needed: a receiver's own genes explain its receptor not at all, its neighbours do.
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import cross_val_score

    adata = tissue(1500)
    planted, kind = adata.uns["planted_pairs"], adata.obs["cell_type"].to_numpy()
    rates = adata.X.toarray() / adata.X.toarray().sum(1, keepdims=True)
    scores = []
    for pair in range(6):
        use = kind == planted["receiver"][pair]
        target = adata.var_names.get_loc(planted["receptor"][pair])
        own = np.delete(np.log1p(1000 * rates[use]), target, axis=1)
        truth = np.log1p(1000 * rates[use, target])
        scores.append(cross_val_score(RidgeCV(np.logspace(-1, 4, 6)), own, truth, cv=4, scoring="r2").mean())
    heard = [np.corrcoef(*heard_and_expressed(adata, pair))[0, 1] ** 2 for pair in range(6)]
    assert np.mean(heard) > np.mean(scores) + 0.1


def test_types_lie_in_smooth_mixed_domains():
    adata = tissue(2000)
    kind = adata.obs["cell_type"].cat.codes.to_numpy()
    source, destination = knn_graph(adata.obsm["spatial"], 8).numpy()
    share = np.bincount(kind, minlength=2) / 2000
    alike = (kind[source] == kind[destination]).mean()
    assert share.min() > 0.1
    assert np.square(share).sum() + 0.05 < alike < 0.8


def test_the_reader_takes_it_as_raw_counts_with_coordinates():
    data = load_cells(tissue(120))
    assert data.scale is not None
    assert data.pos.shape == (120, 2)


@pytest.mark.parametrize("sizes", [{"n_cells": 9}, {"n_types": 1}, {"n_pairs": 0}, {"n_genes": 11}])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(FIMPError, match=f"{next(iter(sizes))}={next(iter(sizes.values()))}.*wanted"):
        tissue(**sizes)


def test_a_recording_follows_its_connectome():
    found = recording(n_regions=12, n_times=6000, coupling=0.4, seed=3)
    assert found.signal.shape == (12, 6000)
    assert found.signal.dtype == np.float32
    assert found.xyz.shape == (12, 3)
    assert np.abs(np.linalg.eigvals(found.connectome)).max() < 1
    x = found.signal.astype(np.float64)
    x -= x.mean(1, keepdims=True)
    fitted = x[:, 1:] @ x[:, :-1].T @ np.linalg.inv(x[:, :-1] @ x[:, :-1].T)
    assert np.abs(fitted - found.connectome).max() < 0.08


def test_subjects_share_a_connectome_and_nothing_else():
    one, same, other = (recording(n_regions=6, n_times=50, seed=1, subject=subject) for subject in (0, 0, 1))
    assert np.array_equal(one.signal, same.signal)
    assert np.array_equal(one.connectome, other.connectome)
    assert np.array_equal(one.xyz, other.xyz)
    assert not np.allclose(one.signal, other.signal)
    assert not np.array_equal(one.xyz, recording(n_regions=6, n_times=50, seed=2).xyz)


@pytest.mark.parametrize("sizes", [{"n_regions": 1}, {"n_times": 1}, {"coupling": 1.5}])
def test_a_recording_of_impossible_size_is_an_error(sizes):
    with pytest.raises(FIMPError, match="recording: n_regions"):
        recording(**sizes)


def test_a_bond_is_heard_on_the_right_alone():
    plain, bonded = (recording(n_regions=40, n_times=2000, bond=bond) for bond in (0.0, 1.0))
    side = sides(plain.xyz)
    assert {name: int((side == name).sum()) for name in ("left", "middle", "right")} == {
        "left": 10,
        "middle": 20,
        "right": 10,
    }
    assert plain.xyz[side == "left", 0].max() < plain.xyz[side == "right", 0].min()
    right, left = side == "right", side == "left"
    assert np.isfinite(bonded.signal).all()
    assert bonded.signal[right].std(1).max() < 20 * plain.signal[right].std(1).max()
    np.testing.assert_array_equal(bonded.connectome[np.ix_(left, left)], plain.connectome[np.ix_(left, left)])

    def together(one):
        return np.corrcoef(one.signal)[np.ix_(right, left)].mean()

    assert together(bonded) > together(plain) + 0.1
    with pytest.raises(FIMPError, match="bond=-1"):
        recording(bond=-1.0)
