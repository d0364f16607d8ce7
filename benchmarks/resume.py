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


def command(out: Path) -> list[str]:
    """Return the command that is killed and repeated."""
    options = ["--data", "digits", "--preset", "demo", "--train-epochs", "5", "--uniform", "0.5", "--out", str(out)]
    return [str(Path(sys.executable).with_name("tvm-prune")), "cprune", "lenet5", *options]


def journal(out: Path) -> list[str]:
    """Return the whole lines of the journal."""
    path = out / "journal.jsonl"
    return path.read_text().split("\n")[:-1] if path.exists() else []


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
            before = journal(out)
            begin = time.monotonic()
            process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_s = None if number == KILLS else chance.uniform(12, 40)
            try:
                process.wait(timeout=wait_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            after = journal(out)
            rows.append(
                {
                    "start": number + 1,
                    "killed_after_s": wait_s,
                    "seconds": time.monotonic() - begin,
                    "exit": process.returncode,
                    "journal_lines": len(after),
                    "kept": after[: len(before)] == before,
                }
            )
    if arguments.json is not None:
        Document.of(rows, summary={"everything_kept": all(row["kept"] for row in rows)}).write(arguments.json)
    print(
        markdown_table(
            rows, {"start": "", "killed_after_s": ".1f", "seconds": ".1f", "exit": "", "journal_lines": "", "kept": ""}
        )
    )


if __name__ == "__main__":
    main()
