"""`tvm-prune records`: what the tuning records hold; joined, thinned out, handed on."""

from pathlib import Path
from typing import Annotated

import typer

from tvm_prune.cli.machine import DEFAULT_RECORDS
from tvm_prune.cli.options import JsonOption
from tvm_prune.cli.screen import show, show_json
from tvm_prune.report.sheet import Column, Sheet, column

__all__ = ["records"]

records = typer.Typer(name="records", no_args_is_help=True, help="List, merge, prune and export tuning records.")

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of tuning records.")]
KeepOption = Annotated[int, typer.Option("--keep", min=1, help="Fastest programs kept of each kernel and target.")]


@records.command("list")
def list_records(folder: FolderArgument = DEFAULT_RECORDS, json: JsonOption = False) -> None:
    """Say what a folder holds, by target and program space.

    Example: tvm-prune records list tuning_logs/local
    """
    from tvm_prune.oracle.record_folders import holdings

    found = holdings(folder)
    if json:
        show_json(found)
        return
    rows = tuple(
        (
            item.target,
            f"{item.space} {item.space_version}",
            str(item.kernels),
            str(item.programs),
            "yes" if item.current else "no, of another version",
        )
        for item in found
    )
    columns = (Column(name="target"), Column(name="space"), column("kernels"), column("programs"), Column(name="used"))
    show([Sheet(title=f"Tuning records in {folder}", columns=columns, rows=rows)])


@records.command("merge")
def merge_records(
    folder: FolderArgument,
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Folders whose records are added.")],
    json: JsonOption = False,
) -> None:
    """Add to DIR the programs that the SOURCE folders know and it does not.

    Example: tvm-prune records merge tuning_logs/local runs/demo/records
    """
    from tvm_prune.oracle.record_folders import merge

    _tell({"added": merge(folder, sources)}, f"added to {folder}", json=json)


@records.command("prune")
def prune_records(folder: FolderArgument, keep: KeepOption = 3, json: JsonOption = False) -> None:
    """Keep only the fastest programs of each kernel and target; drop program spaces of other versions.

    Example: tvm-prune records prune tuning_logs/local --keep 3
    """
    from tvm_prune.oracle.record_folders import prune

    _tell({"removed": prune(folder, keep=keep)}, f"removed from {folder}", json=json)


@records.command("export")
def export_records(
    folder: FolderArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder for the copy.")],
    keep: KeepOption = 1,
    json: JsonOption = False,
) -> None:
    """Write the fastest programs of each kernel and target to a new folder, for another machine of the target.

    Example: tvm-prune records export tuning_logs/local --out tuning_logs/best
    """
    from tvm_prune.oracle.record_folders import export_best

    _tell({"written": export_best(folder, out, keep=keep)}, f"written to {out}", json=json)


def _tell(counts: dict[str, int], text: str, *, json: bool) -> None:
    if json:
        show_json(counts)
    else:
        (count,) = counts.values()
        print(f"{count} {'program' if count == 1 else 'programs'} {text}")
