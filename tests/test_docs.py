"""What the README and docs/ tell people to type is understood, and their tables are those of the code."""

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from tvm_prune.cli import app
from tvm_prune.search.settings import PRESETS, CPruneSettings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
COMMAND = re.compile(
    r"^(?:\.venv/bin/)?(tvm-prune [a-z].*)$|`(?:\.venv/bin/)?(tvm-prune [a-z][^`]*--[^`]*)`", re.MULTILINE
)


def commands() -> list[str]:
    found = []
    for page in PAGES:
        for match in COMMAND.finditer(page.read_text()):
            text = (match[1] or match[2]).split(" #")[0]
            if "..." not in text and "COMMAND" not in text:
                found.append(text.strip())
    return found


def test_the_pages_hold_commands() -> None:
    assert len(commands()) >= 10


@pytest.mark.parametrize("text", commands())
def test_a_printed_command_is_understood(text: str) -> None:
    name, *arguments = shlex.split(text)[1:]
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert name in known
    if arguments != ["--help"]:
        known[name].make_context(name, arguments)


def test_the_page_on_pruning_lists_every_setting_with_its_presets() -> None:
    page = (ROOT / "docs" / "pruning.md").read_text()
    assert settings_table() in page, settings_table()


def settings_table() -> str:
    names = ["cpu", "demo", "paper"]
    lines = ["| setting | " + " | ".join(f"`{name}`" for name in names) + " |", "|---|" + "---|" * len(names)]
    for item in fields(CPruneSettings):
        values = [getattr(PRESETS[name], item.name) for name in names]
        lines.append(
            f"| `{item.name}` | " + " | ".join("-" if value is None else f"{value}" for value in values) + " |"
        )
    return "\n".join(lines)


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "benchmarks").glob("*.json")), ids=lambda path: path.name)
def test_the_command_of_a_benchmark_names_no_place_on_a_machine(path: Path) -> None:
    words = json.loads(path.read_text())["command"].split()
    assert not [word for word in words if word.startswith("/") or "=/" in word]
