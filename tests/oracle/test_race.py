"""Kernels of no model: tuned by themselves, the fastest of each group timed beside the others."""

import pytest

from tests.oracle.quick import is_time
from tvm_prune.oracle.bit_conv import BitConv
from tvm_prune.oracle.bit_forms import bit_serial_kernel, packing_kernel, word_forms
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.cost import Failure
from tvm_prune.oracle.tuner import Group

CONV = BitConv(height=4, width=4, in_channels=32, out_channels=16, w_bits=1, a_bits=1, padding=1)


def groups(oracle: CompilerOracle) -> list[Group]:
    forms = list(word_forms(CONV, oracle.target))
    return [
        Group(tuple(bit_serial_kernel(CONV, form, oracle.target) for form in forms)),
        Group((packing_kernel(CONV, forms[0], oracle.target),)),
    ]


def test_the_fastest_of_each_group_run_in_turns(oracle: CompilerOracle) -> None:
    entries = [found for found in oracle.fastest(groups(oracle)) if not isinstance(found, Failure)]
    assert [record.program.space for _, record in entries] == ["bit_serial", "bit_planes"]
    times = oracle.race(entries, rounds=5)
    assert not isinstance(times, Failure), times
    assert [len(seconds) for seconds in times] == [5, 5]
    assert all(is_time(value) for seconds in times for value in seconds)


def test_a_kernel_that_does_not_run_beside_the_others_is_named(
    oracle: CompilerOracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [found for found in oracle.fastest(groups(oracle)) if not isinstance(found, Failure)]
    monkeypatch.setattr(oracle.tuner, "race", lambda entries, rounds: [[1.0], []])
    failure = Failure(stage="run", message=f"{CONV}, packing alone did not run beside the others")
    assert oracle.race(entries) == failure


def test_a_group_of_which_nothing_works_is_a_failure(oracle: CompilerOracle, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = groups(oracle)
    failure = Failure(stage="build", message="refused")
    monkeypatch.setattr(oracle.records, "best", lambda key: None)
    monkeypatch.setattr(oracle.tuner, "tune", lambda models: None)
    monkeypatch.setitem(oracle.tuner.failures, wanted[0].kernels[0].key, failure)
    assert oracle.fastest(wanted) == [failure, Failure(stage="build", message="no program of it works")]
