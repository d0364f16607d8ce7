"""Sheets on the terminal, drawn with rich."""

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tvm_prune.report.sheet import Sheet

__all__ = ["to_rich"]


def to_rich(sheet: Sheet) -> Group:
    """Return title, table and notes for rich. Cells are taken literally: `[` starts no markup."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in sheet.columns:
        table.add_column(Text(head.name), justify="right" if head.right else "left", overflow="fold")
    for row in sheet.rows:
        table.add_row(*(Text(cell) for cell in row))
    # A title of the table itself would be folded to the table's width.
    return Group(Text(sheet.title, style="bold"), table, *(Text(note, style="dim") for note in sheet.notes), "")
