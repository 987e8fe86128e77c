import anndata
import numpy as np
import pandas as pd
import pytest

import fimp
from fimp.analysis.planted import PLANTED, PlantedLead


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Untrained runs: what is written does not depend on what was learned."""
    folder = tmp_path_factory.mktemp("runs")
    adata = fimp.data.simulate.tissue(n_cells=200, n_genes=12, n_pairs=2)
    adata.obs["condition"] = np.where(adata.obsm["spatial"][:, 0] > 70, "ill", "well")
    adata.write_h5ad(folder / "cells.h5ad")
    table = fimp.data.simulate.images(folder / "images", n_places=40, labelled=1.0)
    scans = fimp.data.simulate.recordings(folder / "scans", n_subjects=8, n_regions=8, n_times=60, bond=1.0)
    small = {"dim": 16, "layers": 1}
    models = {
        "expression": fimp.ExpressionModel(folder / "cells.h5ad", **small),
        "celltype": fimp.CellTypeModel(folder / "cells.h5ad", label="cell_type", **small),
        "gcn": fimp.ExpressionModel(folder / "cells.h5ad", model="gcn", **small),
        "image": fimp.ImageModel(table, image_size=16, patch_size=8, split_by="region", **small),
        "fmri": fimp.RecordingModel(scans, window=20, patch=5, neighbors=3, **small),
    }
    for name, model in models.items():
        model.save(folder / name)
    return folder


def written(folder):
    return sorted(path.name for path in folder.iterdir())


def test_cells_give_pairs_tables_and_a_copy_of_the_cells(run_cli, runs, tmp_path):
    before = (runs / "cells.h5ad").read_bytes()
    out = tmp_path / "out"
    code, text, err = run_cli("attention", runs / "expression", "--out", out, "--draws", 2)
    assert (code, err) == (0, "")
    assert "planted pairs: precision at 2" in text
    figures = ["heatmap.png", "pairs.csv", "pairs.png", "pairs_by_type.csv", "planted.json"]
    assert written(out) == ["attention.h5ad", "attention.npz", *figures]
    assert written(tmp_path) == ["out"]
    assert (runs / "cells.h5ad").read_bytes() == before
    pairs = pd.read_csv(out / "pairs.csv")
    assert list(pairs) == ["receiver", "sender", "attention", "specific", "count", "rank"]
    ranked = pairs.dropna(subset=["rank"])
    assert ranked["specific"].is_monotonic_decreasing
    lead = PlantedLead.read(out / PLANTED)
    assert (lead.model, lead.edges, lead.ranked) == ("fimp-base", "neighbors", len(ranked))
    assert lead.sentence in text
    both = [*lead.pairs, *((sender, receiver) for receiver, sender in lead.pairs)]
    hits = [pair in both for pair in zip(ranked["receiver"], ranked["sender"], strict=True)]
    assert lead.either.precision == np.mean(hits[: len(both)])
    with np.load(out / "attention.npz") as found:
        names = found["receivers"].tolist()
        first = ranked.iloc[0]
        place = names.index(first["receiver"]), names.index(first["sender"])
        assert found["mean"][place] == pytest.approx(first["attention"], rel=1e-4)
        assert found["count"].sum() == pairs["count"].sum()
        stored = anndata.read_h5ad(out / "attention.h5ad").uns["fimp_attention"]
        np.testing.assert_array_equal(stored["mean"], found["mean"])
    assert len(stored["pairs"]) == len(pairs)
    types = pd.read_csv(out / "pairs_by_type.csv")
    assert set(types["receiver_type"]) == {"type A", "type B"}
    # A pair of types is a part of the edges.
    assert types["count"].max() < pairs["count"].max()


def test_between_looks_at_edges_of_one_direction(run_cli, runs, tmp_path):
    run_cli("attention", runs / "expression", "--out", tmp_path / "all", "--draws", 1)
    both = ("type A", "type B"), ("type B", "type A"), ("type A", "type A"), ("type B", "type B")
    counts = []
    for number, (sender, receiver) in enumerate(both):
        out = tmp_path / str(number)
        code, _, err = run_cli(
            "attention", runs / "expression", "--between", sender, receiver, "--draws", 1, "--out", out
        )
        assert (code, err) == (0, "")
        table = pd.read_csv(out / "pairs_by_type.csv")
        assert set(zip(table["sender_type"], table["receiver_type"], strict=True)) == {(sender, receiver)}
        counts.append(pd.read_csv(out / "pairs.csv")["count"].sum())
    assert sum(counts) == pd.read_csv(tmp_path / "all" / "pairs.csv")["count"].sum()


def test_a_model_of_cell_types_tells_genes_by_class(run_cli, runs, tmp_path):
    code, _, err = run_cli("attention", runs / "celltype", "--out", tmp_path / "o", "--edges", "all", "--draws", 1)
    assert (code, err) == (0, "")
    pairs = pd.read_csv(tmp_path / "o" / "pairs.csv")
    assert set(pairs["receiver"]) <= {"type A", "type B"}
    # Pairs of genes are planted, and these are pairs of a class and a gene.
    assert not (tmp_path / "o" / PLANTED).exists()
    assert set(pairs["sender"]) <= set(fimp.load(runs / "celltype").data.gene_names)


def test_a_model_of_cell_types_is_asked_about_cells_without_types(run_cli, runs, tmp_path):
    fimp.data.simulate.tissue(n_cells=60, seed=5).write_h5ad(tmp_path / "typed.h5ad")
    bare = anndata.read_h5ad(tmp_path / "typed.h5ad")
    bare.obs = bare.obs[[]]
    bare.write_h5ad(tmp_path / "bare.h5ad")
    arguments = ["attention", runs / "celltype", "--data", tmp_path / "bare.h5ad", "--draws", 1]
    code, _, err = run_cli(*arguments, "--out", tmp_path / "o")
    assert (code, err) == (0, "")
    assert (tmp_path / "o" / "pairs.csv").is_file()
    code, _, err = run_cli(*arguments, "--out", tmp_path / "p", "--label", "kind")
    assert code == 2
    assert "no obs column 'kind' for --label; there are none" in err


def test_a_contrast_adds_difference_p_and_q(run_cli, runs, tmp_path):
    out = tmp_path / "o"
    code, text, err = run_cli(
        *("attention", runs / "expression", "--contrast", "condition", "--out", out),
        *("--draws", 1, "--blocks", 4, "--permutations", 199),
    )
    assert (code, err) == (0, "")
    assert "spatial blocks" in text
    pairs = pd.read_csv(out / "pairs.csv")
    assert {"attention_ill", "attention_well", "difference", "p", "q"} <= set(pairs)
    np.testing.assert_allclose(pairs["difference"], pairs["attention_ill"] - pairs["attention_well"], atol=1e-5)
    tested = pairs.dropna(subset=["p"])
    assert (tested["q"] >= tested["p"] - 1e-9).all()
    assert (out / "contrast.png").is_file()


def test_images_get_overlays(run_cli, runs, tmp_path):
    code, _, err = run_cli("attention", runs / "image", "--out", tmp_path / "o")
    assert (code, err) == (0, "")
    assert "patches.png" in written(tmp_path / "o")
    assert "attention.h5ad" not in written(tmp_path / "o")


def test_recordings_are_summed_up_by_networks_and_compared(run_cli, runs, tmp_path):
    tables = runs / "scans" / "tables"
    common = ("--contrast", "group", "--subjects", tables / "subjects.csv", "--permutations", 199)
    code, text, err = run_cli("attention", runs / "fmri", *common, "--out", tmp_path / "regions")
    assert (code, err) == (0, "")
    assert "4 and 4 subjects" in text
    assert {"regions.png", "regions_contrast.png", "contrast.png"} <= set(written(tmp_path / "regions"))
    more = ("--group-by", tables / "networks.csv", *common)
    code, _, err = run_cli("attention", runs / "fmri", *more, "--out", tmp_path / "networks")
    assert (code, err) == (0, "")
    assert set(pd.read_csv(tmp_path / "networks" / "pairs.csv")["receiver"]) == {"left", "middle", "right"}


@pytest.mark.parametrize(
    ("run", "more", "message"),
    [
        ("gcn", [], "no cross-node attention; use fimp-base"),
        ("expression", ["--edges", "some"], "--edges: 'some' is unknown; use self, neighbors, all"),
        ("expression", ["--between", "type A", "type Z"], "--between: 'type Z' is no type"),
        ("expression", ["--label", "nothing"], "no obs column 'nothing' for --label"),
        ("expression", ["--contrast", "nothing"], "no obs column 'nothing' for --contrast"),
        ("expression", ["--contrast", "condition", "--unit", "nothing"], "no obs column 'nothing' for --unit"),
        ("expression", ["--contrast", "condition", "--groups", "ill", "odd"], "'odd' is no value of 'condition'"),
        ("expression", ["--contrast", "condition", "--cut", 3], "--cut: 'condition' holds no numbers"),
        ("expression", ["--contrast", "condition", "--blocks", 1], "--blocks: 1 is below 2"),
        ("expression", ["--group-by", "networks"], "--group-by: groups regions of recordings"),
        ("expression", ["--layer", 1], "--layer: fimp-base is no foundation model"),
        ("expression", ["--draws", 0], "--draws: 0 is below 1"),
        ("image", ["--contrast", "condition"], "--contrast: compares cells or recordings"),
        ("fmri", ["--between", "a", "b"], "--between: is for cells and labelled nodes"),
        ("fmri", ["--contrast", "group"], "needs a table of subjects; give it with --subjects"),
        ("fmri", ["--contrast", "age", "--subjects", "subjects"], "has no column 'age', found subject, group"),
        ("fmri", ["--group-by", "subjects"], "has no column 'region', found subject, group"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(run_cli, runs, tmp_path, run, more, message):
    tables = {name: runs / "scans" / "tables" / f"{name}.csv" for name in ("subjects", "networks")}
    code, _, err = run_cli("attention", runs / run, *(tables.get(item, item) for item in more), "--out", tmp_path / "o")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_is_not_written_into(run_cli, runs, tmp_path):
    (tmp_path / "kept").touch()
    code, _, err = run_cli("attention", runs / "expression", "--out", tmp_path)
    assert code == 2
    assert "exists; name a new folder" in err
    assert written(tmp_path) == ["kept"]
