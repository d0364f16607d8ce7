"""The main job on an oracle without a compiler."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.jobs.conftest import JOB, no_bundle
from tvm_prune.errors import ConfigError, ExportError, GoalError, JournalError, ModelError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs import prune_run
from tvm_prune.jobs.apply import load_pruned
from tvm_prune.jobs.cprune import Pruned, cprune
from tvm_prune.jobs.report import load_report
from tvm_prune.jobs.watcher import Silent
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.load import Model, load_model
from tvm_prune.oracle.cost import Failure
from tvm_prune.oracle.fake import LinearOracle
from tvm_prune.oracle.table import ProgramTable
from tvm_prune.report.summary import read_summary
from tvm_prune.search.fidelity import FidelityQuality
from tvm_prune.search.quality import UserQuality
from tvm_prune.search.settings import CPruneSettings, changed
from tvm_prune.search.uniform import UniformSettings


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
    factor = summary.uniform.latency_ms / summary.pruned.latency_ms
    if summary.versus_uniform is None:
        assert factor > 1
        assert summary.uniform_note == "The fastest uniform network is more accurate than that and stands in."
    else:
        assert summary.versus_uniform == pytest.approx(factor)
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
    assert len(pruned.report.uniform) == 3
    assert pruned.report.stop_reason


def test_the_same_call_again_repeats_no_trial_and_no_training(
    pruned: Pruned, lenet: Model, digits: DataSet, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(pruned.folder.path, out)
    oracle, watcher = LinearOracle(lanes=4), Notes()
    again = cprune(lenet, digits, oracle, out=out, bundle=no_bundle, job=JOB, watcher=watcher)
    assert oracle.calls == {}
    assert replace(again.summary, seconds=0) == replace(pruned.summary, seconds=0)
    assert any("trial 0 accepted: dense" in note for note in watcher.notes)


def test_a_kill_between_the_stages_loses_nothing(pruned: Pruned, lenet: Model, digits: DataSet, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(pruned.folder.path, out, ignore=shutil.ignore_patterns("uniform", "summary.json", "report.*"))
    again = cprune(lenet, digits, LinearOracle(lanes=4), out=out, bundle=no_bundle, job=JOB)
    assert again.summary.pruned == pruned.summary.pruned
    assert again.summary.uniform == pruned.summary.uniform


class InFormat(LinearOracle):
    """Wants every model in int8."""

    def table(self, model: CompressedModel) -> ProgramTable | Failure:
        assert {str(scheme) for scheme in model.precision.values()} == {"int8"}
        return super().table(model)


@pytest.mark.parametrize("labels", [True, False], ids=["a data set", "answers"])
def test_with_a_scheme_the_search_goes_by_what_networks_take_in_it(
    lenet: Model, digits: DataSet, tmp_path: Path, labels: bool
) -> None:
    settings = replace(JOB.settings, max_iterations=1, short_term_steps=0, final_steps=0)
    job = replace(JOB, uniform=None, settings=settings, scheme="int8")
    data = digits if labels else FidelityQuality(lenet.module, torch.rand(60, *lenet.example_inputs[0].shape[1:]))
    result = cprune(lenet, data, InFormat(lanes=4), out=tmp_path, bundle=no_bundle, job=job)
    assert result.report.notes[0].startswith("Latencies are of networks in int8; bundle/ holds the float network")
    assert result.summary.pruned.macs < result.summary.dense.macs
    assert not result.model.precision
    with pytest.raises(JournalError, match="target"):
        cprune(lenet, data, LinearOracle(lanes=4), out=tmp_path, bundle=no_bundle, job=replace(job, scheme=None))


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


def test_the_same_search_is_retrained_and_tuned_otherwise(
    pruned: Pruned, lenet: Model, digits: DataSet, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(pruned.folder.path, out)
    journal = (out / "journal.jsonl").read_text()
    settings = replace(JOB.settings, final_steps=15, final_lr=0.005, final_trials_per_task=99)
    again = cprune(lenet, digits, LinearOracle(lanes=4), out=out, bundle=no_bundle, job=replace(JOB, settings=settings))
    assert (out / "journal.jsonl").read_text() == journal
    retrained = [json.loads(path.read_text()) for path in (out / "final").glob("*.accuracy.json")]
    assert (15, 0.005) in [(record["steps"], record["lr"]) for record in retrained]
    assert len(list((out / "uniform").iterdir())) == 2, "the baseline is trained as long"
    assert again.summary.pruned.latency_ms == pruned.summary.pruned.latency_ms


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


def test_a_goal_that_cannot_be_reached_is_refused_before_the_search(
    lenet: Model, digits: DataSet, tmp_path: Path
) -> None:
    job = replace(JOB, settings=replace(JOB.settings, speedup_goal=1000.0, latency_floor=0.0))
    with pytest.raises(GoalError, match="best reachable is about"):
        cprune(lenet, digits, LinearOracle(), out=tmp_path, bundle=no_bundle, job=job)
    assert not (tmp_path / "journal.jsonl").exists()


def test_a_network_with_nothing_to_prune_is_refused(lenet: Model, digits: DataSet, tmp_path: Path) -> None:
    job = replace(JOB, ignored_layers=("*",))
    with pytest.raises(GoalError, match="no group of channels can be pruned"):
        cprune(lenet, digits, LinearOracle(), out=tmp_path, bundle=no_bundle, job=job)


def test_a_users_finetune_is_never_given_steps_for_epochs(lenet: Model, tmp_path: Path) -> None:
    quality = UserQuality(lambda module: 0.9, lambda module, epochs: None)
    with pytest.raises(ConfigError, match="your finetune function counts epochs"):
        cprune(lenet, quality, LinearOracle(), out=tmp_path, bundle=no_bundle, job=JOB)


def test_a_users_own_functions_steer_a_run_which_says_that_it_had_no_test(lenet: Model, tmp_path: Path) -> None:
    epochs: list[int] = []
    quality = UserQuality(lambda module: 0.9, lambda module, count: epochs.append(count))
    in_epochs = {"short_term_steps": None, "short_term_epochs": 1.0, "final_steps": None, "final_epochs": 2.0}
    job = replace(JOB, uniform=None, settings=changed(JOB.settings, in_epochs))
    result = cprune(lenet, quality, LinearOracle(lanes=4), out=tmp_path, bundle=no_bundle, job=job)
    assert set(epochs) == {1, 2}
    assert any("the function that also steered the search" in note for note in result.report.notes)


def test_without_labels_the_originals_answers_steer_a_run(lenet: Model, tmp_path: Path) -> None:
    shape = (60, *lenet.example_inputs[0].shape[1:])
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    quality = FidelityQuality(lenet.module, inputs)
    job = replace(JOB, uniform=None)
    result = cprune(lenet, quality, LinearOracle(lanes=4), out=tmp_path, bundle=no_bundle, job=job)
    assert result.summary.dense.accuracy == 1.0
    assert "agreement with the original" in (tmp_path / "report.md").read_text()
    other = FidelityQuality(lenet.module, inputs.flip(0))
    with pytest.raises(JournalError, match="data was 'agreement-"):
        cprune(lenet, other, LinearOracle(lanes=4), out=tmp_path, bundle=no_bundle, job=job)


def test_other_images_of_the_same_name_do_not_resume_a_run(
    pruned: Pruned, lenet: Model, digits: DataSet, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(pruned.folder.path, out)
    other = replace(digits, train=digits.train.take(torch.arange(len(digits.train) - 1)))
    with pytest.raises(JournalError, match="data was 'digits-"):
        cprune(lenet, other, LinearOracle(lanes=4), out=out, bundle=no_bundle, job=JOB)


def test_another_baseline_of_a_finished_run_repeats_the_baseline_only(
    pruned: Pruned, lenet: Model, digits: DataSet, tmp_path: Path
) -> None:
    out, oracle = tmp_path / "copy", LinearOracle(lanes=4)
    shutil.copytree(pruned.folder.path, out)
    job = replace(JOB, uniform=UniformSettings(ratios=(0.6,), roundings=(4,)))
    again = cprune(lenet, digits, oracle, out=out, bundle=no_bundle, job=job)
    assert [point.label for point in again.report.uniform] == ["0.6/4"]
    assert again.summary.pruned == pruned.summary.pruned
    assert oracle.calls["table"] == 2  # the baseline's dense network and its one other


def test_a_form_that_the_result_cannot_take_is_a_note(
    pruned: Pruned, lenet: Model, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(model: CompressedModel, path: Path) -> None:
        raise ExportError("no ONNX for this operator")

    monkeypatch.setattr(prune_run, "save_onnx", refusing)
    out = tmp_path / "copy"
    shutil.copytree(pruned.folder.path, out)
    again = cprune(lenet, digits, LinearOracle(lanes=4), out=out, bundle=no_bundle, job=JOB)
    assert "model.onnx was not written: no ONNX for this operator" in again.report.notes
    assert again.summary.pruned == pruned.summary.pruned
