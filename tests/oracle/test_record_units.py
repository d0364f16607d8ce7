"""Which unit a record's seconds are in."""

import logging
from pathlib import Path
from typing import Any

import pytest

from tvm_prune.oracle.record_units import PARALLEL, SERIAL, read_units, unit_name, unit_of, write_units
from tvm_prune.oracle.target import Target

SKYLAKE = Target(cpu="skylake-avx512", threads=2, vector_bits=512)
UNITS = {unit_name(SKYLAKE, PARALLEL): 4e-5, unit_name(SKYLAKE, SERIAL): 8e-5}


def recorded(**changes: Any) -> dict[str, Any]:
    """Return the target of a record as TVM writes it."""
    return {"kind": "llvm", "mcpu": "skylake-avx512", "mtriple": "x86_64-linux", "num-cores": 2, **changes}


def test_units_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read_units(tmp_path) == {}
    write_units(tmp_path, UNITS)
    assert read_units(tmp_path) == UNITS


def test_a_file_that_cannot_be_read_has_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "units.json").write_text("[1, 2]")
    with caplog.at_level(logging.WARNING):
        assert read_units(tmp_path) == {}
    assert "units.json cannot be read" in caplog.text


def test_a_record_is_in_the_unit_of_its_target_and_threads() -> None:
    assert unit_of(UNITS, recorded(), parallel=True) == "llvm --cpu=skylake-avx512 --threads=2 --vector-bits=512 canary"
    assert unit_of(UNITS, recorded(), parallel=False) == unit_name(SKYLAKE, SERIAL)


@pytest.mark.parametrize("changes", [{"mcpu": "znver4"}, {"num-cores": 4}, {"mcpu": None}])
def test_other_targets_are_in_none_of_these_units(changes: dict[str, Any]) -> None:
    assert unit_of(UNITS, recorded(**changes), parallel=True) is None


def test_a_unit_with_a_triple_is_of_that_triple_alone() -> None:
    arm = Target(triple="aarch64-linux-gnu", threads=4, vector_bits=128)
    units = {"no target at all canary": 1.0, unit_name(arm, PARALLEL): 2.0}
    target = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "num-cores": 4}
    assert unit_of(units, target, parallel=True) == unit_name(arm, PARALLEL)
    assert unit_of(units, {**target, "mtriple": "aarch64-android"}, parallel=True) is None
