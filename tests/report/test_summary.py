"""summary.json: its keys are a promise to scripts."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.conftest import cost
from tvm_prune.errors import ConfigError
from tvm_prune.report.markdown import to_markdown
from tvm_prune.report.summary import Figures, Summary, TestImages, read_summary, summary_sheet, write_summary
from tvm_prune.search.trial import Accuracy


def test_the_file_holds_the_promised_keys(summary: Summary, tmp_path: Path) -> None:
    write_summary(summary, tmp_path / "summary.json")
    data = json.loads((tmp_path / "summary.json").read_text())
    promised = "model data target threads dense pruned uniform speedup accuracy_drop_pp parity_max_abs_err trials"
    assert set(promised.split()) | {"measurements", "seconds"} <= set(data)
    for network in ("dense", "pruned", "uniform"):
        assert list(data[network]) == ["latency_ms", "accuracy", "macs", "params"]
    assert data["test_images"] == {"total": 600, "dense_correct": 590, "pruned_correct": 588, "lost_net": 2}


def test_what_is_written_is_read_back(summary: Summary, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    for each in (summary, replace(summary, uniform=None, versus_uniform=None, uniform_note="none tried")):
        write_summary(each, path)
        assert read_summary(path) == each


def test_a_missing_summary_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run has not finished; start its command again"):
        read_summary(tmp_path / "summary.json")


@pytest.mark.parametrize("content", [b'{"model": ', b"\xff\xfe"])
def test_a_broken_summary_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"summary\.json is not JSON"):
        read_summary(path)


def test_an_unknown_key_is_refused(summary: Summary, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_summary(summary, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"extra": 1}))
    with pytest.raises(ConfigError, match="extra"):
        read_summary(path)


def test_before_and_after_reads_as_agreed(summary: Summary, golden: Callable[[str, str], None]) -> None:
    golden("summary.md", to_markdown(summary_sheet(summary)))


def test_a_run_without_a_uniform_baseline_says_so(summary: Summary) -> None:
    sheet = summary_sheet(replace(summary, uniform=None, versus_uniform=None, uniform_note="no uniform network tried"))
    assert {row[3] for row in sheet.rows} == {"-"}
    assert sheet.notes[-1] == "no uniform network tried"


def test_figures_come_from_cost_and_accuracy() -> None:
    figures = Figures.of(cost(0.5, macs=7, params=3), Accuracy(correct=9, total=10))
    assert figures == Figures(latency_ms=0.5, accuracy=0.9, macs=7, params=3)


def test_counts_of_two_different_splits_are_our_mistake() -> None:
    with pytest.raises(AssertionError, match="two test splits"):
        TestImages.of(Accuracy(correct=1, total=10), Accuracy(correct=1, total=11))
