import sys

import pytest

from fimp.cli.main import main


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Runs the command in this process: ``run_cli("data", "list")`` gives (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fimp", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as error:
            code = error.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run
