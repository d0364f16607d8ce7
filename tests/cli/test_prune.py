"""`tvm-prune cprune`, `report`, `apply` and `evaluate` on an oracle without a compiler."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import Result

from tests.cli.conftest import Invoke
from tests.jobs.conftest import no_bundle
from tvm_prune.cli import prune
from tvm_prune.errors import ConfigError, RecipeError, TvmPruneError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.count import count
from tvm_prune.jobs.cprune import Pruned
from tvm_prune.jobs.cprune import cprune as real_cprune
from tvm_prune.models.evaluate import Score
from tvm_prune.models.load import Model
from tvm_prune.oracle.fake import LinearOracle
from tvm_prune.report.summary import read_summary

FAST = {
    "alpha": 0.9,
    "accuracy_drop": 0.2,
    "max_iterations": 1,
    "short_term_steps": 2,
    "final_steps": 2,
    "bite": 0.2,
}


@pytest.fixture(autouse=True)
def linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open a LinearOracle instead of a compiler, and write a stand-in for the bundle."""

    @contextmanager
    def opening(target: object, **options: Any) -> Iterator[LinearOracle]:
        yield LinearOracle(lanes=4)

    def bundled(*args: Any, **options: Any) -> Pruned:
        return real_cprune(*args, **options, bundle=no_bundle)

    monkeypatch.setattr(prune, "open_oracle", opening)
    monkeypatch.setattr("tvm_prune.jobs.cprune.cprune", bundled)


def cprune(invoke: Invoke, *more: str) -> Result:
    settings = [part for name, value in FAST.items() for part in ("--set", f"{name}={value}")]
    return invoke("cprune", "lenet5", "--train-epochs", "2", "--out", "run", "--uniform", "0.5", *settings, *more)


def test_a_run_is_reported_resumed_applied_and_evaluated(invoke: Invoke, tmp_path: Path) -> None:
    first = cprune(invoke)
    assert "Before and after" in first.stdout
    assert "Where did the time go" in first.stdout
    assert "Everything is in run" in first.stdout
    summary = read_summary(tmp_path / "run" / "summary.json")
    assert summary.model == "lenet5"
    assert summary.uniform is not None
    journal = (tmp_path / "run" / "journal.jsonl").read_text()

    again = json.loads(cprune(invoke, "--json").stdout)
    assert again["pruned"] == json.loads((tmp_path / "run" / "summary.json").read_text())["pruned"]
    assert (tmp_path / "run" / "journal.jsonl").read_text() == journal

    (tmp_path / "run" / "report.md").unlink()
    text = invoke("report", "run").stdout
    assert "Tasks and programs, pruned" in text
    assert (tmp_path / "run" / "report.md").exists()
    assert json.loads(invoke("report", "run", "--json").stdout)["stop_reason"]

    recipe = ("--recipe", "run/recipe.json")
    weights = "run/weights.safetensors"
    applied = json.loads(
        invoke("apply", "lenet5", *recipe, "--pruned-weights", weights, "--out", "small.pt2", "--json").stdout
    )
    assert applied["after"]["macs"] == summary.pruned.macs
    assert (tmp_path / "small.pt2").exists()
    scored = json.loads(invoke("evaluate", "lenet5", *recipe, "--weights", weights, "--json").stdout)
    assert scored["correct"] == summary.test_images.pruned_correct
    with pytest.raises(RecipeError, match="made from 'lenet5'"):
        invoke("apply", "resnet20", *recipe, "--out", "small.pt2")
    with pytest.raises(ConfigError, match="let it end in"):
        invoke("apply", "lenet5", *recipe, "--out", "small.bin")


def test_a_run_by_a_number_format_is_quantized_at_its_end(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def quantized(model: CompressedModel, *args: Any, **options: Any) -> Any:
        asked.update(options, macs=count(model.module, model.example_inputs).macs)
        score = Score(correct=9, total=10)
        same = dict.fromkeys(("fp32", "rounded", "compiled"), score)
        return SimpleNamespace(
            **same,
            fp32_ms=2.0,
            quantized_ms=1.0,
            fp32_bytes=4000,
            quantized_bytes=1000,
            faster=SimpleNamespace(median=2.0, median_low=1.9, median_high=2.1),
            precision={"a": "int8"},
            float_layers=[],
            agreement=1.0,
            bundle="run/int8/bundle",
            shipped="quantized",
        )

    monkeypatch.setattr("tvm_prune.jobs.quantize.quantize", quantized)
    ran = cprune(invoke, "--scheme", "int8")
    assert ran.exit_code == 0, ran.output
    assert "Latencies are of networks in int8" in ran.stdout
    assert "The pruned lenet5 in float32 and as int8" in ran.stdout
    assert "2.00 times as fast" in ran.stdout
    assert asked["out"] == Path("run/int8")
    assert asked["settings"].scheme == "int8"
    summary = read_summary(Path("run/summary.json"))
    assert asked["macs"] == summary.pruned.macs < summary.dense.macs
    assert len(asked["recipe"].steps) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scheme", "w4"), "--scheme w4 does not change what a network takes"),
        (("--scheme", "int3"), "no number format 'int3'"),
        (("--scheme", "int8", "--inputs", "x.npy"), "give --data in place of --inputs"),
    ],
)
def test_a_scheme_that_nothing_can_be_searched_by_is_refused(
    invoke: Invoke, options: tuple[str, ...], message: str
) -> None:
    with pytest.raises(TvmPruneError, match=message):
        invoke("cprune", "lenet5", "--out", "run", *options)


def test_ctrl_c_leaves_the_command_to_go_on_with(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **options: Any) -> Pruned:
        raise KeyboardInterrupt

    monkeypatch.setattr("tvm_prune.jobs.cprune.cprune", interrupted)
    monkeypatch.setattr(sys, "argv", ["tvm-prune", "cprune", "lenet5", "--out", "my run"])
    result = cprune(invoke)
    assert result.exit_code == 130
    assert "To go on: tvm-prune cprune lenet5 --out 'my run'" in result.stderr


def test_a_list_of_ratios_that_cannot_be_read_is_refused(invoke: Invoke) -> None:
    with pytest.raises(ConfigError, match="write lists such as"):
        invoke("cprune", "lenet5", "--out", "run", "--uniform", "half")
    with pytest.raises(ConfigError, match="each above 0 and at most 1"):
        invoke("cprune", "lenet5", "--out", "run", "--uniform", "2")


def test_a_folder_without_a_finished_run_has_no_report(invoke: Invoke) -> None:
    with pytest.raises(ConfigError, match="the run has not finished; start its command again"):
        invoke("report", "nowhere")


def test_a_damaged_report_is_named(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report.json").write_text("{")
    with pytest.raises(ConfigError, match=r"report\.json is not JSON"):
        invoke("report", "run")


def test_without_labels_the_answers_of_the_network_itself_count(invoke: Invoke, tmp_path: Path) -> None:
    import numpy as np

    from tvm_prune.models.weights import save_weights
    from tvm_prune.models.zoo import build

    save_weights(build("lenet5"), tmp_path / "lenet5.safetensors")
    generator = np.random.default_rng(0)
    np.save(tmp_path / "inputs.npy", generator.standard_normal((40, 3, 32, 32)).astype("float32"))
    cprune(invoke, "--inputs", "inputs.npy", "--weights", "lenet5.safetensors")
    summary = read_summary(tmp_path / "run" / "summary.json")
    assert summary.data == "agreement with the original"
    assert summary.dense.accuracy == 1.0


def test_agreement_with_an_untrained_network_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "inputs.npy", np.zeros((40, 3, 32, 32), "float32"))
    with pytest.raises(ConfigError, match="never trained says nothing; give its --weights"):
        cprune(invoke, "--inputs", "inputs.npy")


def test_inputs_from_a_file_are_for_networks_of_one_input() -> None:
    ports = cast(Model, SimpleNamespace(example_inputs=(1, 2)))
    with pytest.raises(ConfigError, match=r"networks of one input, this one takes 2; .*UserQuality"):
        prune._answers(ports, Path("inputs.npy"), trained=True)
