"""The command line: parses, calls a public function, prints. Nothing else happens here."""

import typer

__all__ = ["app", "main"]

app = typer.Typer(name="tvm-prune", no_args_is_help=True, add_completion=False)


@app.callback()
def _root() -> None:
    """Prune a network by what it costs once compiled on the device it will run on."""


def main() -> None:
    """Run the command line; the entry point `tvm-prune`."""
    app()
