"""One process measures at a time."""

import subprocess
import sys
import time
from pathlib import Path

from tvm_prune.lock import machine_lock

HOLDER = """
import sys, time
from pathlib import Path
from tvm_prune.lock import machine_lock
with machine_lock("measuring", path=Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_waits_is_told_who_holds_it_and_goes_on_after_its_death(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    told: list[str] = []
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        def waiting(who: str) -> None:
            told.append(who)
            holder.kill()

        begin = time.monotonic()
        with machine_lock("training", waiting=waiting, path=path):
            assert "training" in path.read_text()
        assert time.monotonic() - begin < 30
    assert len(told) == 1
    assert told[0].startswith("measuring")
    assert str(holder.pid) in told[0]


def test_the_holder_may_take_it_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with machine_lock("measuring", path=path), machine_lock("training", path=path):
        assert "measuring" in path.read_text()
    with machine_lock("training", path=path):
        assert "training" in path.read_text()
