"""What stands in the way of a machine and of a model; nothing is tuned."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tvm_prune.jobs import doctor
from tvm_prune.jobs.doctor import (
    Diagnosis,
    diagnose,
    diagnosis_sheets,
    group_views,
    integer_check,
    machine_checks,
)
from tvm_prune.models.load import Model, load_model
from tvm_prune.oracle.target import Target
from tvm_prune.report.markdown import to_markdown


class Unknown(nn.Module):
    """A convolution, then an operator for which the compiler has no converter."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = torch.linalg.det(self.layer(x))
        return made


@pytest.fixture(scope="module")
def lenet() -> Diagnosis:
    return diagnose(load_model("lenet5"), Target(), records=Path("/nonexistent/records"), trials_per_task=10)


def test_this_machine_can_run_it(tmp_path: Path) -> None:
    checks = {check.name: check for check in machine_checks(tmp_path / "not" / "there")}
    assert {"python", "apache-tvm", "apache-tvm-ffi", "linker", "cores", "disk"} <= set(checks)
    assert all(check.ok for check in checks.values()), checks


def test_a_full_disk_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED_DISK_BYTES", 1 << 60)
    (disk,) = (check for check in machine_checks(tmp_path) if check.name == "disk")
    assert not disk.ok
    assert "choose another folder for the records" in disk.advice


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("llvm --cpu=cascadelake --triple=x86_64-linux-gnu --vector-bits=512", "vpdpbusd, four products a lane"),
        ("llvm --cpu=haswell --triple=x86_64-linux-gnu --vector-bits=256", "pmaddwd, two products a lane"),
        ("llvm --cpu=neoverse-n2 --triple=aarch64-linux-gnu", "usdot, four products a lane"),
        ("llvm --triple=riscv64-linux-gnu", "no instruction; integers run on plain multiplications"),
    ],
)
def test_a_line_says_what_integers_run_on(text: str, found: str) -> None:
    check = integer_check(Target.parse(text))
    few = "1 to 7 bits run so too, up to 2x2 in planes where faster"
    assert (check.name, check.found, check.ok) == ("int8", f"{found}; {few}", True)


def test_what_integers_run_on_is_among_the_checks(lenet: Diagnosis) -> None:
    assert [check.name for check in lenet.checks].count("int8") == 1


def test_a_good_model_has_groups_tasks_and_an_estimate(lenet: Diagnosis) -> None:
    assert lenet.ok
    assert [group.name for group in lenet.groups if not group.prunable] == ["classifier.4"]
    layers = {layer for task in lenet.tasks for layer in task.layers}
    assert layers == {"features.0", "features.3", "classifier.0", "classifier.2", "classifier.4"}
    assert lenet.tuning_s == pytest.approx(5 * doctor.TRIALS_A_TASK * doctor.SECONDS_A_TRIAL)


def test_the_sheets_say_it_in_words(lenet: Diagnosis) -> None:
    text = "\n".join(to_markdown(sheet) for sheet in diagnosis_sheets(lenet))
    assert "4 of 5 groups can be pruned" in text
    assert "Tuning those without a record takes about" in text


def test_an_operator_that_the_compiler_lacks_is_named_without_a_traceback(tmp_path: Path) -> None:
    model = Model("unknown", Unknown().eval(), (torch.randn(1, 3, 6, 6),), "unknown", True)
    found = diagnose(model, Target(), records=tmp_path, trials_per_task=1)
    assert not found.ok
    (check,) = (check for check in found.checks if check.name == "compiler takes it")
    assert "det" in check.advice
    assert found.tasks == ()
    assert found.tuning_s is None


def test_ignored_layers_are_shown_as_such() -> None:
    views = {group.name: group for group in group_views(load_model("lenet5"), ignored=("features.0",))}
    assert views["features.0"].reason == "features.0 is ignored"


def test_an_archive_has_no_groups(tmp_path: Path) -> None:
    model = replace(load_model("lenet5"), prunable=False)
    assert group_views(model) == ()
    found = diagnose(model, Target(), records=tmp_path, trials_per_task=1)
    assert any(check.found.startswith("no: an exported archive") for check in found.checks)
