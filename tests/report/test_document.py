"""The report on disk."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from tvm_prune.report.document import RunReport, report_sheets, unprunable_layers, write_report
from tvm_prune.report.plots import Point, plot_latency_accuracy
from tvm_prune.search.trial import Trial


def test_the_report_reads_as_agreed(run_report: RunReport, tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    path = write_report(run_report, tmp_path)
    golden("report.md", path.read_text())


def test_every_plot_that_the_report_links_is_drawn(run_report: RunReport, tmp_path: Path) -> None:
    text = write_report(run_report, tmp_path).read_text()
    plots = sorted((tmp_path / "plots").iterdir())
    assert [path.name for path in plots] == ["history.png", "latency_accuracy.png", "tasks.png"]
    for path in plots:
        assert f"(plots/{path.name})" in text
        with Image.open(path) as image:
            pixels = image.convert("L")
            assert min(pixels.size) >= 400
            assert len(set(pixels.resize((64, 64)).tobytes())) > 10, "an empty plot"


def test_a_run_that_pruned_nothing_still_has_a_report(run_report: RunReport, tmp_path: Path) -> None:
    run = replace(run_report, pruned=run_report.dense, trials=run_report.trials[:1], uniform=(), envelope=())
    text = write_report(run, tmp_path).read_text()
    assert "no step on it was accepted" in text


def test_the_sheets_come_in_reading_order(run_report: RunReport) -> None:
    titles = [sheet.title for sheet in report_sheets(run_report)]
    assert titles[:4] == ["Before and after", "Where did the time go", "History", "Time of the search"]
    assert len(titles) == 6


def test_unprunable_layers_come_from_the_dense_trial(trials: tuple[Trial, ...]) -> None:
    assert unprunable_layers(trials) == {"head": "its channels are an output of the graph"}
    assert unprunable_layers(()) == {}


def test_labels_and_an_absent_baseline_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    point = Point(latency_ms=1, accuracy=0.9, label="dense")
    plot_latency_accuracy(path, dense=point, pruned=point)
    assert path.stat().st_size > 5000
