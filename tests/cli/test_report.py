import shlex
from pathlib import Path

import pytest

import fimp
from fimp.analysis.planted import PlantedLead


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "t.h5ad"
    fimp.data.simulate.tissue(n_cells=100, n_genes=12, n_pairs=3).write_h5ad(path)
    return path


def compare(run_cli, cells, out):
    sizes = ["--seeds", 1, "--epochs", 1, "--device", "cpu", "--jobs", 1]
    return run_cli("compare", "expression", "--data", cells, "--models", "mean,gcn", *sizes, "--out", out)


def test_a_report_of_a_comparison_and_of_its_runs(run_cli, cells, tmp_path):
    out = tmp_path / "my run"
    assert compare(run_cli, cells, out).code == 0
    for folder in (out, out / "runs" / "gcn" / "seed0"):
        code, text, err = run_cli("report", folder)
        assert (code, err) == (0, "")
        assert f"{folder}/report.html: " in text
        html = (folder / "report.html").read_text()
        assert "fimp repeat " in html
        assert ("fimp compare expression" in html) == (folder == out)
    # An earlier report is of an earlier comparison.
    assert compare(run_cli, cells, out).code == 0
    assert not (out / "report.html").exists()


def test_planted_pairs_of_a_comparison_are_shown_with_and_without_true_edges(run_cli, cells, tmp_path):
    out, models = tmp_path / "c", ("fimp-base", "fimp-base:shuffled-edges")
    sizes = ["--seeds", 1, "--epochs", 0, "--device", "cpu", "--jobs", 1]
    assert (
        run_cli("compare", "expression", "--data", cells, "--models", ",".join(models), *sizes, "--out", out).code == 0
    )
    for run in sorted(out.glob("runs/*/seed0")):
        assert run_cli("attention", run, "--out", run / "attention", "--draws", 1).code == 0
    assert run_cli("report", out).code == 0
    html = (out / "report.html").read_text()
    section = html[html.index('<section id="attention">') :].split("</section>")[0]
    for model in models:
        (path,) = [
            path for path in out.glob("runs/*/seed0/attention/planted.json") if PlantedLead.read(path).model == model
        ]
        lead = PlantedLead.read(path)
        for direction, found in (("as planted", lead.planted), ("either", lead.either)):
            numbers = (found.k, f"{found.precision:.2f}", f"{found.chance:.2f}", f"{found.auroc:.2f}")
            cells_of_row = "".join(f'<td class="number">{number}</td>' for number in numbers)
            assert (
                f'{model}</th><td class="number">0</td><td>neighbors</td><td>{direction}</td>{cells_of_row}' in section
            )


def test_what_is_left_out_is_said(run_cli, cells, tmp_path):
    data = tmp_path / "t.h5ad"
    data.write_bytes(cells.read_bytes())
    assert compare(run_cli, data, tmp_path / "o").code == 0
    data.unlink()
    code, text, err = run_cli("report", tmp_path / "o")
    assert (code, err) == (0, "")
    assert "left out: " in text
    assert "t.h5ad" in text
    assert "Left out" in (tmp_path / "o" / "report.html").read_text()


def test_data_in_memory_is_opened_in_python(run_cli, tmp_path):
    fimp.ExpressionModel(fimp.data.simulate.tissue(n_cells=60, n_genes=12), model="mean").save(tmp_path / "m")
    code, _, err = run_cli("report", tmp_path / "m")
    assert (code, err) == (0, "")
    html = (tmp_path / "m" / "report.html").read_text()
    assert "fimp.load(" in html
    assert "fimp repeat" not in html


def test_what_is_no_run_is_refused(run_cli, tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        code, _, err = run_cli("report", path)
        assert code == 2
        assert "no run folder" in err
        assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_that_cannot_be_written_is_refused(run_cli, tmp_path):
    fimp.ExpressionModel(fimp.data.simulate.tissue(n_cells=60, n_genes=12), model="mean").save(tmp_path / "m")
    (tmp_path / "m" / "report.html").mkdir()
    code, _, err = run_cli("report", tmp_path / "m")
    assert code == 2
    assert "cannot be written" in err
    assert err.count("\n") == 1
    assert shlex.quote(str(Path(tmp_path))) in err
