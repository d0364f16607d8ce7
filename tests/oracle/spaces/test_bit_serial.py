"""The programs of convolutions of few bits: each computes the integer sums, replays from its record, names itself."""

import math

import numpy as np
import pytest
import tvm

from tests.oracle.bits import HERE, activations, computed, expected, packed, weights
from tests.oracle.kernels import record_of
from tvm_prune.oracle.bit_conv import BitConv, WordForm
from tvm_prune.oracle.bit_forms import bit_serial_kernel, packing_kernel
from tvm_prune.oracle.objects import scheduled
from tvm_prune.oracle.records import Record
from tvm_prune.oracle.spaces import SPACES, points
from tvm_prune.oracle.target import Target

ONE, TWO = Target(threads=1, vector_bits=128), Target(threads=2, vector_bits=128)
CASES = {
    "2 x 2, padded": BitConv(height=4, width=4, in_channels=20, out_channels=16, w_bits=2, a_bits=2, padding=1, zero=1),
    "1 x 2, stride 2": BitConv(
        height=8, width=8, in_channels=32, out_channels=8, w_bits=1, a_bits=2, padding=1, stride=2
    ),
    "3 x 1, pointwise": BitConv(height=4, width=2, in_channels=32, out_channels=8, w_bits=3, a_bits=1, kernel=(1, 1)),
}
WORDS = WordForm(bits=32, lanes=4)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", [ONE, TWO, HERE], ids=["one thread", "two threads", "this machine"])
def test_programs_give_the_integer_sums(name: str, target: Target) -> None:
    case = CASES[name]
    function = bit_serial_kernel(case, WORDS, target).function
    sums = expected(case, activations(case), weights(case))
    # One of each variant: the tile factors only unroll further.
    variants = {point.program.variant: point for point in reversed(list(points(function, target)))}
    assert len(variants) > 1 or target.threads == 1
    for variant, point in variants.items():
        body = point.candidate().schedule.mod["main"]
        found = computed(body, activations(case), packed(case, WORDS), target=target)
        np.testing.assert_array_equal(found, sums, err_msg=variant)


@pytest.mark.parametrize("name", CASES)
def test_programs_cut_evenly_and_are_listed_once(name: str) -> None:
    found = list(points(bit_serial_kernel(CASES[name], WORDS, TWO).function, TWO))
    programs = [point.program for point in found]
    assert len({program.name for program in programs}) == len(programs)
    for program in programs:
        assert (program.space, program.space_version) in SPACES.items()
        assert all(math.prod(axis.factors) == axis.padded_extent for axis in program.axes.values())
    for point in found[:4]:
        assert "T.where" not in point.candidate().schedule.mod.script()


@pytest.mark.parametrize("packing", [False, True], ids=["convolution", "packing alone"])
def test_a_record_replays(packing: bool) -> None:
    make = packing_kernel if packing else bit_serial_kernel
    kernel = make(CASES["2 x 2, padded"], WORDS, TWO)
    for point in list(points(kernel.function, TWO))[:3]:
        candidate = point.candidate()
        again = scheduled(kernel, Record(candidate.program, record_of(kernel, candidate, TWO), 1))
        tvm.ir.assert_structural_equal(again, candidate.schedule.mod["main"])


def test_programs_that_pack_alone_write_the_same_planes() -> None:
    case = CASES["2 x 2, padded"]
    kernel = packing_kernel(case, WORDS, TWO)
    plain = computed(kernel.function, activations(case))
    found = {point.program.variant: point for point in points(kernel.function, TWO)}
    assert set(found) == {"serial", "parallel"}
    for point in found.values():
        made = computed(point.candidate().schedule.mod["main"], activations(case), target=TWO)
        np.testing.assert_array_equal(made, plain)


def test_where_the_processor_counts_ones_a_program_does_so_in_whole_vectors() -> None:
    target = Target(cpu="znver4", threads=2, vector_bits=512)
    case = BitConv(height=4, width=4, in_channels=64, out_channels=32, w_bits=2, a_bits=2, padding=1)
    for form, instruction in ((WordForm(bits=32, lanes=16), "vpopcntd"), (WordForm(bits=64, lanes=8), "vpopcntq")):
        point = next(iter(points(bit_serial_kernel(case, form, target).function, target)))
        body = point.candidate().schedule.mod["main"].with_attr("global_symbol", "kernel")
        assembly = tvm.compile(tvm.IRModule({"kernel": body}), target=target.to_tvm()).mod.inspect_source("asm")
        counts = [line for line in assembly.splitlines() if instruction in line]
        assert counts
        assert all("%zmm" in line for line in counts)
        # Packing compares a vector of bytes with a mask.
        assert "vptestmb" in assembly
