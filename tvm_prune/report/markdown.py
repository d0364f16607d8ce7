"""Sheets as Markdown."""

from tvm_prune.report.sheet import Sheet

__all__ = ["to_markdown"]


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def to_markdown(sheet: Sheet, *, level: int = 2) -> str:
    """Return `sheet` as a heading of `level`, a pipe table and its notes as a list, ending with a newline."""
    lines = [f"{'#' * level} {sheet.title}", ""]
    lines.append("| " + " | ".join(_cell(head.name) for head in sheet.columns) + " |")
    lines.append("|" + "|".join(" ---: " if head.right else " --- " for head in sheet.columns) + "|")
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in sheet.rows]
    if sheet.notes:
        lines += ["", *(f"- {note}" for note in sheet.notes)]
    return "\n".join(lines) + "\n"
