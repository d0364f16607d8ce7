"""Zero padding before a convolution becomes part of it; any other padding stays."""

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.fold_pads import FoldPads
from tests.relay_passes.graphs import Emit, graph, operators, run, tensor


def padded(widths: list[int], *, mode: str = "constant", value: float = 0.0, reused: bool = False) -> Any:
    """Return a 3x3 convolution with a padding of its own on a padded image, channels first."""
    height, width = 5 + widths[4] + widths[5], 6 + widths[6] + widths[7]
    data, weight = tensor("data", 1, 2, 5, 6), tensor("weight", 3, 2 + widths[2] + widths[3], 3, 3)
    assert height >= 3
    assert width >= 3

    def body(emit: Emit) -> Any:
        image = emit(relax.op.nn.pad(data, widths, pad_mode=mode, pad_value=value))
        conv = relax.op.nn.conv2d(image, weight, padding=[1, 0, 1, 0])
        return relax.op.sum(image) + emit(conv) if reused else conv

    return graph([data], [weight], body)


def outputs(module: Any) -> np.ndarray:
    generator = np.random.default_rng(0)
    shapes = ([int(extent) for extent in param.ty.shape.values] for param in module["main"].params)
    return run(module, *(generator.standard_normal(shape).astype("float32") for shape in shapes))[0]


@pytest.mark.parametrize("widths", [[0, 0, 0, 0, 0, 1, 0, 1], [0, 0, 0, 0, 2, 1, 3, 0]])
def test_zeros_around_the_image_become_padding_of_the_convolution(widths: list[int]) -> None:
    before = padded(widths)
    after = FoldPads()(before)  # type: ignore[operator]
    assert operators(after) == ["nn.conv2d"]
    np.testing.assert_allclose(outputs(after), outputs(before), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "module",
    [
        padded([0, 0, 0, 0, 1, 1, 1, 1], value=1.0),
        padded([0, 0, 0, 0, 1, 1, 1, 1], mode="reflect"),
        padded([0, 0, 1, 0, 0, 0, 0, 0]),
    ],
    ids=["ones", "reflected", "a channel"],
)
def test_any_other_padding_stays(module: Any) -> None:
    assert operators(FoldPads()(module)) == ["nn.pad", "nn.conv2d"]  # type: ignore[operator]


def test_a_padding_that_something_else_reads_stays_for_that() -> None:
    after = FoldPads()(padded([0, 0, 0, 0, 0, 1, 0, 1], reused=True))  # type: ignore[operator]
    assert sorted(operators(after)) == ["add", "nn.conv2d", "nn.pad", "sum"]
    np.testing.assert_allclose(
        outputs(after), outputs(padded([0, 0, 0, 0, 0, 1, 0, 1], reused=True)), rtol=1e-4, atol=1e-4
    )
