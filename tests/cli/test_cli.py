"""The command line as a whole."""

from pathlib import Path

import pytest

import tvm_prune
from tests.cli.conftest import Invoke, run_process
from tvm_prune.cli import app

COMMANDS = [command.callback.__name__ for command in app.registered_commands if command.callback]


def test_help_lists_every_command_and_the_exit_codes(invoke: Invoke) -> None:
    text = invoke("--help").stdout
    assert all(name in text for name in COMMANDS)
    assert "130 interrupted" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(invoke: Invoke, name: str) -> None:
    text = invoke(name, "--help").stdout
    assert f"Example: tvm-prune {name}" in text
    assert "--json" in text


def test_the_version_is_printed(tmp_path: Path) -> None:
    done = run_process("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, tvm_prune.__version__)
