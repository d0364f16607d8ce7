"""What is shown while a job runs."""

import io
import logging

import pytest
from rich.console import Console

from tvm_prune.cli.screen import PLAIN_INTERVAL_S, Screen, configure_logging, show, show_json
from tvm_prune.report.sheet import Column, Sheet


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_file_gets_one_line_a_stage_and_one_every_ten_seconds() -> None:
    clock, out = Clock(), io.StringIO()
    with Screen(console=Console(file=out, width=100), clock=clock) as screen:
        screen.stage("tuning", total=14)
        screen.stage("tuning", total=14)
        for done in range(1, 8):
            clock.now += PLAIN_INTERVAL_S / 2.5
            screen.advance(done, detail=f"task {done} [x]")
        screen.note("kept")
    assert out.getvalue().splitlines() == ["tuning", "tuning: 3/14 task 3 [x]", "tuning: 6/14 task 6 [x]", "kept"]


def test_a_terminal_gets_a_live_line_with_stage_and_detail() -> None:
    out = io.StringIO()
    console = Console(file=out, width=160, force_terminal=True, color_system=None)
    with Screen(console=console) as screen:
        screen.stage("tuning [fast]")
        screen.advance(3, total=14, detail="conv2d 32x32")
        screen._progress.refresh()
    assert "tuning [fast]" in out.getvalue()
    assert "3/14" in out.getvalue()
    assert "conv2d 32x32" in out.getvalue()


def test_sheets_are_not_folded_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    cell = "x" * 150
    show([Sheet(title="t", columns=(Column(name="c"),), rows=((cell,),))])
    assert cell in capsys.readouterr().out


def test_json_is_of_plain_values(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"a": (1, 2)})
    assert capsys.readouterr().out == '{\n  "a": [\n    1,\n    2\n  ]\n}\n'


def test_verbose_logs_this_package_only() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging(verbose=True)
        assert logging.getLogger("tvm_prune").isEnabledFor(logging.DEBUG)
        assert not logging.getLogger("other").isEnabledFor(logging.INFO)
        configure_logging(verbose=False)
        assert not logging.getLogger("tvm_prune").isEnabledFor(logging.INFO)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
