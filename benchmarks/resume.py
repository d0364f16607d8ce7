"""Kill a real run three times with SIGKILL at random moments, start the same command again, compare what it decided.

    python -m benchmarks.resume --json FILE

LeNet-5 on digits. Every trial in the journal at a kill must be there, byte for byte, at the end.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.document import Document, markdown_table

KILLS = 3
JOURNALS = ("journal.jsonl", "uniform/*/journal.jsonl")


def command(out: Path) -> list[str]:
    """Return the command that is killed and repeated."""
    options = ["--data", "digits", "--preset", "demo", "--train-epochs", "5", "--uniform", "0.5", "--out", str(out)]
    return [str(Path(sys.executable).with_name("tvm-prune")), "cprune", "lenet5", *options]


def journals(out: Path) -> dict[str, list[str]]:
    """Return the whole lines of the search's journal and of the baseline's, by path."""
    paths = [path for pattern in JOURNALS for path in sorted(out.glob(pattern))]
    return {str(path.relative_to(out)): path.read_text().split("\n")[:-1] for path in paths}


def kept(before: dict[str, list[str]], after: dict[str, list[str]]) -> bool:
    """Whether each line that was there is there still, at its place."""
    return all(after.get(name, [])[: len(lines)] == lines for name, lines in before.items())


def lines_of(found: dict[str, list[str]]) -> int:
    """Return how many lines there are in all."""
    return sum(map(len, found.values()))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        for number in range(KILLS + 1):
            before = journals(out)
            begin = time.monotonic()
            process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_s = None if number == KILLS else chance.uniform(12, 40)
            try:
                process.wait(timeout=wait_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            after = journals(out)
            rows.append(
                {
                    "start": number + 1,
                    "killed_after_s": wait_s,
                    "seconds": time.monotonic() - begin,
                    "exit": process.returncode,
                    "journal_lines": lines_of(after),
                    "kept": kept(before, after),
                }
            )
    lines = [row["journal_lines"] for row in rows]
    killed = [row["exit"] == -signal.SIGKILL for row in rows]
    good = (
        all(row["kept"] for row in rows)
        and killed == [True] * KILLS + [False]
        and rows[-1]["exit"] == 0
        and lines == sorted(set(lines))
        and lines[0] > 1
    )
    if arguments.json is not None:
        Document.of(rows, summary={"everything_kept": good}).write(arguments.json)
    print(
        markdown_table(
            rows, {"start": "", "killed_after_s": ".1f", "seconds": ".1f", "exit": "", "journal_lines": "", "kept": ""}
        )
    )
    if not good:
        raise SystemExit("something was lost, or a start was not killed or made no headway: see the table")


if __name__ == "__main__":
    main()
