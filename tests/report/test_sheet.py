"""Sheets and their two writers."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tvm_prune.report.markdown import to_markdown
from tvm_prune.report.sheet import Column, Sheet, column, number
from tvm_prune.report.terminal import to_rich

SHEET = Sheet(
    title="A title",
    columns=(Column(name="name"), column("us")),
    rows=(("a|b", "1.5"), ("[bold]", "22")),
    notes=("a note",),
)


def test_markdown_escapes_pipes_and_aligns_figures_to_the_right() -> None:
    assert to_markdown(SHEET, level=3) == (
        "### A title\n\n| name | us |\n| --- | ---: |\n| a\\|b | 1.5 |\n| [bold] | 22 |\n\n- a note\n"
    )


def test_the_terminal_takes_cells_literally() -> None:
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(to_rich(SHEET))
    text = console.export_text()
    assert "A title" in text
    assert "[bold]" in text
    assert "a note" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0416, "0.0416"), (1.2345, "1.23"), (22.71, "22.7"), (1014.4, "1,014"), (-3.456, "-3.46")],
)
def test_numbers_show_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_a_shown_number_is_within_half_a_percent(value: float) -> None:
    assert abs(float(number(value).replace(",", "")) - value) <= 0.0051 * value


def test_a_row_of_the_wrong_length_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="1 cells for 2 columns"):
        Sheet(title="t", columns=(column("a"), column("b")), rows=(("1",),))
