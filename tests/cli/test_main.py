import subprocess
import sys

import fimp


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys; from fimp.cli.main import app; app(['--help'], standalone_mode=False); "
        "heavy = {'torch', 'lightning', 'torch_geometric', 'anndata', 'pandas', 'matplotlib', 'scipy', 'numpy'}; "
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "compare" in result.stdout


def test_version(run_cli):
    assert run_cli("--version")[:2] == (0, f"fimp {fimp.__version__}\n")
    result = subprocess.run([sys.executable, "-m", "fimp", "--version"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, f"fimp {fimp.__version__}\n")


def test_malformed_flags_are_one_line(run_cli):
    for arguments in (["compare", "expression"], ["compare", "expression", "--seeds", "x"], ["--nope"], ["nope"]):
        code, out, err = run_cli(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("fimp: error: ")
        assert err.count("\n") == 1


def test_public_names_resolve():
    for name in fimp.__all__:
        assert getattr(fimp, name) is not None
    assert set(fimp.__all__) <= set(dir(fimp))
