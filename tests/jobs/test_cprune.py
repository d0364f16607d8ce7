"""The main job on an oracle without a compiler."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.jobs.conftest import JOB, no_bundle
from tvm_prune.errors import ConfigError, GoalError, JournalError, ModelError
from tvm_prune.jobs.apply import load_pruned
from tvm_prune.jobs.cprune import Pruned, cprune
from tvm_prune.jobs.report import load_report
from tvm_prune.jobs.watcher import Silent
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.load import Model, load_model
from tvm_prune.oracle.fake import LinearOracle
from tvm_prune.report.summary import read_summary
from tvm_prune.search.settings import CPruneSettings


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[str] = []

    def stage(self, text: str, *, total: int | None = None) -> None:
        self.stages.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_the_run_folder_holds_everything_that_was_promised(pruned: Pruned) -> None:
    folder = pruned.folder
    for path in (folder.recipe, folder.weights, folder.pt2, folder.onnx, folder.summary, folder.report_data):
        assert path.stat().st_size > 0, path
    assert (folder.path / "report.md").exists()
    assert (folder.bundle / "module").exists()
    assert sorted(path.name for path in (folder.path / "plots").iterdir()) == [
        "history.png",
        "latency_accuracy.png",
        "tasks.png",
    ]


def test_the_summary_is_consistent(pruned: Pruned) -> None:
    summary = read_summary(pruned.folder.summary)
    assert summary == pruned.summary
    assert summary.speedup > 1.1
    assert summary.speedup == pytest.approx(summary.dense.latency_ms / summary.pruned.latency_ms)
    assert summary.pruned.macs < summary.dense.macs
    assert summary.test_images.total == 600
    assert summary.accuracy_drop_pp == pytest.approx(100 * summary.test_images.lost_net / 600)
    assert summary.parity_max_abs_err == 1e-6
    assert summary.uniform is not None
    assert summary.versus_uniform == pytest.approx(summary.uniform.latency_ms / summary.pruned.latency_ms)
    assert summary.seconds > 0


def test_recipe_and_weights_rebuild_the_pruned_model_on_the_users_class(pruned: Pruned) -> None:
    made = load_pruned(load_model("lenet5"), pruned.folder.recipe, weights=pruned.folder.weights)
    with torch.no_grad():
        expected = pruned.model.module(*pruned.model.example_inputs)
        torch.testing.assert_close(made.module(*made.example_inputs), expected)
        exported = torch.export.load(pruned.folder.pt2).module()
        torch.testing.assert_close(exported(*made.example_inputs), expected)


def test_the_report_is_read_back_as_it_was_written(pruned: Pruned) -> None:
    assert load_report(pruned.folder) == pruned.report
    assert len(pruned.report.uniform) == 2
    assert pruned.report.stop_reason


def test_the_same_call_again_repeats_no_trial_and_no_training(
    pruned: Pruned, lenet: Model, digits: DataSet, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(pruned.folder.path, out)
    oracle, watcher = LinearOracle(lanes=4), Notes()
    again = cprune(lenet, digits, oracle, out=out, bundle=no_bundle, job=JOB, watcher=watcher)
    assert oracle.calls == {"table": 2, "compare": 1}
    assert replace(again.summary, seconds=0) == replace(pruned.summary, seconds=0)
    assert any("trial 0 accepted: dense" in note for note in watcher.notes)


def test_a_kill_between_the_stages_loses_nothing(pruned: Pruned, lenet: Model, digits: DataSet, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(pruned.folder.path, out, ignore=shutil.ignore_patterns("uniform", "summary.json", "report.*"))
    again = cprune(lenet, digits, LinearOracle(lanes=4), out=out, bundle=no_bundle, job=JOB)
    assert again.summary.pruned == pruned.summary.pruned
    assert again.summary.uniform == pruned.summary.uniform


def test_a_run_without_a_baseline_says_so(lenet: Model, digits: DataSet, tmp_path: Path) -> None:
    settings = replace(JOB.settings, max_iterations=1, short_term_steps=0, final_steps=0)
    job = replace(JOB, uniform=None, settings=settings)
    summary = cprune(lenet, digits, LinearOracle(lanes=4), out=tmp_path, bundle=no_bundle, job=job).summary
    assert summary.uniform is None
    assert summary.versus_uniform is None
    assert summary.uniform_note == "No uniform network was tried."


def test_other_settings_do_not_resume_a_run(pruned: Pruned, lenet: Model, digits: DataSet, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(pruned.folder.path, out)
    job = replace(JOB, settings=replace(JOB.settings, alpha=0.5))
    with pytest.raises(JournalError, match="alpha"):
        cprune(lenet, digits, LinearOracle(lanes=4), out=out, bundle=no_bundle, job=job)


def test_an_archive_cannot_be_pruned(lenet: Model, digits: DataSet, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="only measure it: tvm-prune tune"):
        cprune(replace(lenet, prunable=False), digits, LinearOracle(), out=tmp_path, bundle=no_bundle)


def test_an_accuracy_above_the_dense_one_is_refused(lenet: Model, digits: DataSet, tmp_path: Path) -> None:
    job = replace(JOB, settings=CPruneSettings(accuracy_requirement=1.0))
    with pytest.raises(GoalError, match=r"1\.0000 is required but the dense model reaches"):
        cprune(lenet, digits, LinearOracle(), out=tmp_path, bundle=no_bundle, job=job)


def test_an_oracle_that_cannot_compile_needs_a_bundler(lenet: Model, digits: DataSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="LinearOracle cannot compile the result; pass bundle="):
        cprune(lenet, digits, LinearOracle(), out=tmp_path)
