"""The ``fimp`` command. Heavy packages are imported inside commands, so that ``--help`` is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import typer

from fimp.cli import attention, compare, data, demo, embed, models, pretrain, repeat, report, tune
from fimp.errors import FIMPError

#: Commands that train one model in several processes.
_TOGETHER = ("compare", "pretrain")
# What typer raises for an unknown or malformed flag; it has no public name of its own.
_UsageError: Any = typer.BadParameter.__mro__[1]

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
app.add_typer(models.app, name="models")
app.add_typer(compare.app, name="compare")
app.add_typer(pretrain.app, name="pretrain")
app.add_typer(tune.app, name="tune")
app.command("embed")(embed.embed)
app.command("attention")(attention.attention)
app.command("repeat")(repeat.repeat)
app.command("report")(report.report)


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if "TORCHELASTIC_RUN_ID" in os.environ and context.invoked_subcommand not in (None, *_TOGETHER):
        name = context.invoked_subcommand
        raise FIMPError(f"torchrun: 'fimp {name}' runs in one process; use it without torchrun")
    if version:
        import fimp

        typer.echo(f"fimp {fimp.__version__}")
        raise typer.Exit()


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    try:
        sys.exit(_together() if "TORCHELASTIC_RUN_ID" in os.environ else app(standalone_mode=False))
    except FIMPError as error:
        sys.exit(_fail(str(error), 2))
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        sys.exit(_fail(error.format_message(), 2))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_fail("interrupted", 130))


def _together() -> Any:
    """Be one of the processes that ``torchrun`` started.

    All run a command that trains one model, the first aloud; of one that trains many, the first tells the others which.
    """
    # torch warns of what its own users should know.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from fimp.train import processes

    processes.start()
    alike = sys.argv[1:2] == ["pretrain"]
    if not processes.leads():
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
        return app(standalone_mode=False) if alike else processes.follow()
    if alike:
        return app(standalone_mode=False)
    try:
        out = app(standalone_mode=False)
    except (FIMPError, _UsageError):
        processes.release()
        raise
    processes.release()
    return out


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"fimp: {'error: ' if code == 2 else ''}{' '.join(message.split())}\n")
    return code
