"""`tvm-prune records` on folders that hold programs of a convolution and of a matrix product."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.oracle.test_records import filled
from tvm_prune.oracle.spaces import SPACES


@pytest.fixture
def folder(invoke: Invoke, tmp_path: Path) -> Path:
    filled(tmp_path / "mine")
    return tmp_path / "mine"


@pytest.mark.parametrize("name", ["list", "merge", "prune", "export"])
def test_every_sub_command_explains_itself_with_an_example(invoke: Invoke, name: str) -> None:
    assert f"Example: tvm-prune records {name}" in invoke("records", name, "--help").stdout


def test_list_shows_targets_and_spaces(invoke: Invoke, folder: Path) -> None:
    text = invoke("records", "list", "mine").stdout
    assert "Tuning records in mine" in text
    assert f"direct_conv {SPACES['direct_conv']}" in text
    (first, second) = json.loads(invoke("records", "list", "mine", "--json").stdout)
    assert (first["space"], first["programs"]) == ("dense", 2)
    assert (second["space"], second["kernels"], second["current"]) == ("direct_conv", 1, True)


def test_merge_prune_and_export_say_how_many_programs(invoke: Invoke, folder: Path) -> None:
    assert invoke("records", "merge", "all", "mine").stdout == "5 programs added to all\n"
    assert json.loads(invoke("records", "prune", "all", "--keep", "2", "--json").stdout) == {"removed": 1}
    assert invoke("records", "export", "all", "--out", "best").stdout == "2 programs written to best\n"
