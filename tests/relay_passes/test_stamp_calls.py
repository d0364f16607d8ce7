"""A stamped module computes what it computed, and writes down when each kernel call begins and ends."""

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import ir, relax

from relay_passes.link_layers import call_sites
from relay_passes.pipeline import fuse
from relay_passes.stamp_calls import STAMP_WORDS, StampCalls
from tests.relay_passes.graphs import Emit, conv_graph, graph, run, tensor

TARGET = tvm.target.Target({"kind": "llvm", "num-cores": 1})


def chain() -> ir.IRModule:
    """Return three products, of which the first two are one kernel, and a softmax."""
    data, square, last = tensor("data", 4, 4), tensor("square", 4, 4), tensor("last", 4, 2)

    def body(emit: Emit) -> Any:
        twice = emit(relax.op.matmul(emit(relax.op.matmul(data, square)), square))
        return relax.op.nn.softmax(emit(relax.op.matmul(twice, last)))

    return graph([data], [square, last], body)


def halves() -> ir.IRModule:
    """Return a product whose columns are split: one kernel with two results, each used on its own."""
    data, weight, left, right = (
        tensor("data", 2, 4),
        tensor("weight", 4, 6),
        tensor("left", 3, 4),
        tensor("right", 3, 5),
    )

    def body(emit: Emit) -> Any:
        parts = emit(relax.op.split(emit(relax.op.matmul(data, weight)), 2, axis=1))
        one, other = emit(relax.op.matmul(emit(parts[0]), left)), emit(relax.op.matmul(emit(parts[1]), right))
        return relax.op.concat([one, other], axis=1)

    return graph([data], [weight, left, right], body)


@pytest.mark.parametrize(
    "module", [chain(), conv_graph((3, 5), epilogue=True), halves()], ids=["chain", "conv", "two results"]
)
def test_a_stamped_module_computes_the_same_and_stamps_every_call(module: ir.IRModule) -> None:
    fused = fuse(module, TARGET)
    sites = call_sites(fused)
    names = {site.kernel for site in sites}
    runs, words = 2, 1 + STAMP_WORDS * len(sites) * 2
    count = int(fused["main"].attrs["num_input"])
    generator = np.random.default_rng(0)
    arrays = [
        generator.standard_normal([int(extent) for extent in param.ty.shape.values]).astype("float32")
        for param in fused["main"].params
    ]
    stamped = StampCalls(names, words)(fused)  # type: ignore[operator]
    assert int(stamped["main"].attrs["num_input"]) == count + 1
    assert stamped["main"].params[count].name == "stamps"

    stamps = tvm.runtime.tensor(np.zeros(words, "int64"))
    made = [run(stamped, *arrays[:count], stamps, *arrays[count:]) for _ in range(runs)]
    (expected,) = run(fused, *arrays)
    for (output,) in made:
        np.testing.assert_array_equal(output, expected)

    written = stamps.numpy()
    assert written[0] == words - 1
    rows = written[1:].reshape(runs, len(sites), STAMP_WORDS)
    begin, end = rows[..., 0] * 10**9 + rows[..., 1], rows[..., 2] * 10**9 + rows[..., 3]
    assert (end >= begin).all()
    assert (begin.reshape(-1)[1:] >= end.reshape(-1)[:-1]).all()


def test_only_the_kernels_named_are_stamped() -> None:
    fused = fuse(chain(), TARGET)
    stamped = StampCalls({"softmax"}, 1 + STAMP_WORDS)(fused)  # type: ignore[operator]
    assert [site.kernel for site in call_sites_of(stamped)] == ["matmul", "matmul", "matmul1", "stamped_softmax"]


def call_sites_of(module: ir.IRModule) -> Any:
    """Return the call sites; the buffer of stamps comes between inputs and weights and is an input."""
    return call_sites(module)
