"""Planes of bits pay where they are the fastest beyond doubt; one convolution in three forms is compared."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.oracle.quick import BENCH, TUNING, is_time
from tvm_prune.oracle.bit_conv import BitConv, WordForm
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.cost import Failure, Ratio
from tvm_prune.oracle.target import Target
from tvm_prune.search.bit_verdict import BitVerdict, Timed, bit_verdict

CONV = BitConv(height=4, width=4, in_channels=32, out_channels=32, w_bits=1, a_bits=2, padding=1)
TIMED = Timed(median_s=1.0, spread_s=0.1, program="bit_serial 1: serial")


def ratio(low: float, high: float) -> Ratio:
    return Ratio(
        median=(low + high) / 2,
        low=low,
        high=high,
        median_low=low,
        median_high=high,
        incumbent_s=1.0,
        candidate_s=1.0,
        blocks=31,
    )


@pytest.mark.parametrize(
    ("over_int8", "over_float", "pays"),
    [
        (ratio(0.4, 0.5), ratio(0.2, 0.3), True),
        (ratio(0.9, 1.1), ratio(0.2, 0.3), False),
        (ratio(0.4, 0.5), ratio(1.2, 1.3), False),
    ],
    ids=["faster than both", "perhaps faster than int8", "slower than floats"],
)
def test_planes_pay_where_they_are_faster_than_both_beyond_doubt(
    over_int8: Ratio, over_float: Ratio, pays: bool
) -> None:
    verdict = BitVerdict(
        conv=CONV,
        target="llvm",
        words=WordForm(bits=32, lanes=16),
        bit_serial=TIMED,
        packing=TIMED,
        int8=TIMED,
        float32=TIMED,
        over_int8=over_int8,
        over_float=over_float,
    )
    assert verdict.pays == pays


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("records")
    with CompilerOracle(Target.local(threads=2), records_folder=folder, tuning=TUNING, bench=BENCH) as made:
        yield made


@pytest.mark.slow
def test_three_programs_of_one_convolution_are_timed_in_turns(oracle: CompilerOracle) -> None:
    found = bit_verdict(CONV, oracle, rounds=7)
    assert isinstance(found, BitVerdict), found
    assert found.bit_serial.program.startswith("bit_serial")
    assert found.packing.program.startswith("bit_planes")
    assert found.int8.program.startswith("direct_conv")
    assert found.float32.program.split(" ")[0] in ("direct_conv", "winograd")
    assert all(is_time(each.median_s) for each in (found.bit_serial, found.packing, found.int8, found.float32))
    assert (found.over_int8.blocks, found.over_float.blocks) == (7, 7)
    assert found.target == str(oracle.target)
    # What was tuned is on record: only the turns are taken again.
    before = oracle.trials
    again = bit_verdict(CONV, oracle, rounds=7)
    assert isinstance(again, BitVerdict)
    # Where words of another size win this time, packing to them is new: on one thread and on two.
    assert oracle.trials - before == (0 if again.words == found.words else 2)


class Refusing:
    """An oracle that can build none of the kernels that it is asked about from its call number `since` on."""

    def __init__(self, oracle: CompilerOracle, *, since: int) -> None:
        self.target, self.tasks, self.race = oracle.target, oracle.tasks, oracle.race
        self._oracle, self._left = oracle, since

    def fastest(self, groups: Sequence[Any]) -> Any:
        self._left -= 1
        if self._left < 0:
            return [Failure(stage="build", message="refused") for _ in groups]
        return self._oracle.fastest(groups)


@pytest.mark.slow
@pytest.mark.parametrize("since", [0, 1], ids=["the convolutions", "packing"])
def test_what_cannot_be_built_is_a_failure(oracle: CompilerOracle, since: int) -> None:
    conv = replace(CONV, w_bits=2)
    found = bit_verdict(conv, cast(CompilerOracle, Refusing(oracle, since=since)))
    assert found == Failure(stage="build", message="refused")
