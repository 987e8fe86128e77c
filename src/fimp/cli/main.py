"""The ``fimp`` command. Heavy packages are imported inside commands, so that ``--help`` is quick."""

from __future__ import annotations

import sys

import typer

from fimp.cli import compare, data, demo, repeat
from fimp.errors import FIMPError

app = typer.Typer(
    name="fimp",
    help="Message passing with foundation models on graphs of token sequences.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.add_typer(compare.app, name="compare")
app.command("repeat")(repeat.repeat)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        import fimp

        typer.echo(f"fimp {fimp.__version__}")
        raise typer.Exit()


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    try:
        app()
    except FIMPError as error:
        message = " ".join(str(error).split())
        sys.exit(_fail(f"fimp: error: {message}", 2))
    except KeyboardInterrupt:
        sys.exit(_fail("fimp: interrupted", 130))


def _fail(message: str, code: int) -> int:
    sys.stderr.write(message + "\n")
    return code
