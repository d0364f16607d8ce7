"""The rough count of a kernel's work: integers are as fast as the instruction that their target has for them."""

import pytest

from relay_passes.weight_form import WeightForm
from tests.oracle.kernels import the_kernel
from tests.oracle.test_dot_product import integer_conv
from tvm_prune.oracle.features import KernelShape, shape_of, work_s
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import anatomy_of

VNNI = Target(cpu="alderlake", triple="x86_64-linux-gnu", vector_bits=256)
PMADDWD = Target(cpu="haswell", triple="x86_64-linux-gnu", vector_bits=256)
NOTHING = Target(triple="riscv64-linux-gnu", vector_bits=256)


@pytest.fixture(scope="module")
def shape() -> KernelShape:
    kernel = the_kernel(integer_conv(64, 64), VNNI, form=WeightForm(layout="dot", lanes=8))
    return shape_of(kernel.function, anatomy_of(kernel))


def test_work_takes_longer_with_a_slower_instruction(shape: KernelShape) -> None:
    assert work_s(shape, VNNI) < work_s(shape, PMADDWD) < work_s(shape, NOTHING)


def test_what_moves_bytes_takes_as_long_with_every_instruction(shape: KernelShape) -> None:
    macs = shape.macs / (5e9 * 8)
    for target, speed in ((VNNI, 4.0), (PMADDWD, 1.4), (NOTHING, 1.0)):
        assert work_s(shape, NOTHING) - work_s(shape, target) == pytest.approx(macs - macs / speed)
