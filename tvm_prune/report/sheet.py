"""A table as plain text cells: what the terminal and Markdown writers both draw."""

from dataclasses import dataclass

__all__ = ["Column", "Sheet", "column", "number"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column; figures stand to the right."""

    name: str
    right: bool = False


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Title, columns, rows of cells (as many as columns each), and notes that belong beneath."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), f"{len(row)} cells for {len(self.columns)} columns in {self.title}"


def column(name: str) -> Column:
    """Return a column of figures."""
    return Column(name=name, right=True)


def number(value: float, digits: int = 3) -> str:
    """Return a figure with `digits` significant digits and no exponent, thousands apart."""
    if value == 0:
        return "0"
    size = abs(value)
    decimals = 0
    while size < 10 ** (digits - 1) and decimals < 12:
        size *= 10
        decimals += 1
    return f"{value:,.{decimals}f}"
