"""The command line: parses, calls a public function, prints. Nothing else happens here."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from tvm_prune import __version__
from tvm_prune.cli.learn import evaluate, train
from tvm_prune.cli.look import doctor, plan, tune
from tvm_prune.cli.precision import precision
from tvm_prune.cli.prune import cprune, report
from tvm_prune.cli.quantize import quantize
from tvm_prune.cli.records import records
from tvm_prune.cli.screen import configure_logging
from tvm_prune.cli.ship import apply, export, run
from tvm_prune.errors import TvmPruneError

__all__ = ["app", "main"]

USER_ERROR = 2

app = typer.Typer(
    name="tvm-prune",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (doctor, plan, tune, cprune, quantize, precision, train, evaluate, apply, export, run, report):
    app.command()(command)
app.add_typer(records)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what the package does, on stderr.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Prune a network by what it costs once compiled and tuned on the device it will run on.

    Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 2 something to change in the command or
    its files (the message says what), 130 interrupted (the same command resumes).
    """
    configure_logging(verbose=verbose)


def main() -> None:
    """Run the command line; the entry point `tvm-prune`."""
    try:
        app()
    except TvmPruneError as error:
        console = Console(stderr=True)
        console.print(f"{type(error).__name__}: {error}", markup=False, highlight=False, soft_wrap=True, style="red")
        sys.exit(USER_ERROR)
    except (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        if error.filename is None:
            raise
        text = f"{error.strerror}: {error.filename}; choose a place that you may write to"
        Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True, style="red")
        sys.exit(USER_ERROR)
