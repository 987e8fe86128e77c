import json


def test_the_demo_runs_within_its_time(run_cli, tmp_path):
    code, out, err = run_cli("demo", "--out", tmp_path / "demo", "--max-minutes", 0.4)
    assert (code, err) == (0, "")
    assert "AUROC" in out
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert [row["model"] for row in results["summary"]] == ["mean", "mlp", "gcn", "fimp-base:no-edges", "fimp-base"]


def test_the_demos_folder_may_not_be_a_file(run_cli, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run_cli("demo", "--out", tmp_path / "file")
    assert code == 2
    assert "is a file" in err
