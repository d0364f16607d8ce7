"""Integer graphs compute exactly what integer layers in NumPy do, and hold the operators that they should."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.integer_arrays import WeightFormat, integer_array, weight_scales
from relay_passes.integer_graph import IntegerGraph
from tests.relay_passes.graphs import Emit, graph, operators, run, tensor
from tests.relay_passes.integer_reference import convolved, rounded

GENERATOR = np.random.default_rng(0)
STATE = {
    "w": GENERATOR.standard_normal((5, 3, 3, 3)).astype(np.float32),
    "b": GENERATOR.standard_normal(5).astype(np.float32),
    "v": GENERATOR.standard_normal((5, 5, 3, 3)).astype(np.float32),
    "u": GENERATOR.standard_normal((5, 3, 1, 1)).astype(np.float32),
}
IMAGE = GENERATOR.standard_normal((1, 3, 6, 6)).astype(np.float32)
# Scale and zero point of the image, of results that may be negative, and of those that may not.
SOURCE, SIGNED, POSITIVE = (0.02, 120), (0.15, 131), (0.06, 0)


def stored(emit: Emit, value: Any, how: tuple[float, int]) -> Any:
    constants = relax.const(how[0], "float32"), relax.const(how[1], "uint8")
    return emit(relax.op.dequantize(emit(relax.op.quantize(value, *constants, out_dtype="uint8")), *constants))


def conv(emit: Emit, data: Any, weight: Any, *, padding: int = 1) -> Any:
    return emit(relax.op.nn.conv2d(data, weight, padding=padding))


def made(body: Callable[[Emit, Any, dict[str, Any]], Any], names: str = "wbvu") -> Any:
    data = tensor("data", *IMAGE.shape)
    weights = {name: tensor(name, *STATE[name].shape) for name in names}
    return graph([data], list(weights.values()), lambda emit: body(emit, data, weights))


def integers(module: Any, names: str = "wvu") -> tuple[Any, np.ndarray]:
    """Return the integer graph and its result on the image."""
    passed = IntegerGraph(dict.fromkeys(names, WeightFormat()))
    changed = passed(module)  # type: ignore[operator]
    arrays = {name: integer_array(how, STATE) for name, how in passed.arrays.items()}
    values = [arrays.get(var.name, STATE.get(var.name)) for var in changed["main"].params[1:]]
    return changed, run(changed, IMAGE, *values)[0]


def quantized(value: np.ndarray, how: tuple[float, int]) -> np.ndarray:
    scaled = value * np.float32(1 / np.float32(how[0]))
    clipped = np.clip(scaled, np.float32(-how[1]), np.float32(255 - how[1]))
    return np.asarray(np.floor(clipped + np.float32(how[1] + 0.5)), np.uint8)


def units(weight: str, source: tuple[float, int]) -> np.ndarray:
    return np.asarray(float(np.float32(source[0])) * weight_scales(STATE[weight]).astype(np.float64))


def weight_integers(weight: str) -> np.ndarray:
    scales = weight_scales(STATE[weight]).reshape(-1, 1, 1, 1)
    return np.asarray(np.rint(STATE[weight] / scales), np.int8)


def sums(data: np.ndarray, weight: str, source: tuple[float, int], bias: str | None = None, padding: int = 1) -> Any:
    """Return the sums of a layer without what the zero point of its source has added, its bias among them."""
    total = convolved(data.astype(int) - source[1], weight_integers(weight), padding=padding)
    if bias is not None:
        total += np.rint(STATE[bias].astype(np.float64) / units(weight, source)).astype(int).reshape(1, -1, 1, 1)
    return total


def multiplier(weight: str, source: tuple[float, int], result: tuple[float, int]) -> np.ndarray:
    return np.asarray(units(weight, source) / float(np.float32(result[0])), np.float32)


def residual(integer: np.ndarray, how: tuple[float, int], weight: str, source: tuple[float, int]) -> Any:
    """Return what a stored tensor adds to the sums of a layer."""
    factor = float(np.float32(how[0])) / units(weight, source)
    shift = np.clip(np.floor(np.log2((2**31 - 1) / 256 / factor)), 0, 16).astype(int)
    whole = np.rint(factor * 2.0**shift).astype(int)
    rows = [array.reshape(1, -1, 1, 1) for array in (whole, (1 << shift) >> 1, shift)]
    return ((integer.astype(int) - how[1]) * rows[0] + rows[1]) >> rows[2]


def as_float(integer: np.ndarray, how: tuple[float, int]) -> np.ndarray:
    return np.asarray((integer.astype(np.float32) - np.float32(how[1])) * np.float32(how[0]))


def test_a_convolution_with_bias_and_relu_is_stored_in_one_step() -> None:
    def body(emit: Emit, data: Any, given: dict[str, Any]) -> Any:
        bias = emit(relax.op.reshape(given["b"], [1, 5, 1, 1]))
        total = emit(relax.op.add(conv(emit, stored(emit, data, SOURCE), given["w"]), bias))
        return stored(emit, emit(relax.op.nn.relu(total)), POSITIVE)

    changed, found = integers(made(body, "wb"))
    data = quantized(IMAGE, SOURCE)
    expected = rounded(sums(data, "w", SOURCE, "b"), multiplier("w", SOURCE, POSITIVE), 0, low=0.0)
    np.testing.assert_array_equal(found, as_float(expected, POSITIVE))
    assert "quantize" not in operators(changed)
    assert len(set(found.ravel().tolist())) > 20


def test_a_residual_is_added_to_the_sums() -> None:
    def body(emit: Emit, data: Any, given: dict[str, Any]) -> Any:
        first = stored(emit, conv(emit, stored(emit, data, SOURCE), given["w"]), SIGNED)
        total = emit(relax.op.add(conv(emit, first, given["v"]), first))
        return stored(emit, total, SIGNED)

    changed, found = integers(made(body, "wv"))
    first = rounded(sums(quantized(IMAGE, SOURCE), "w", SOURCE), multiplier("w", SOURCE, SIGNED), SIGNED[1])
    total = sums(first, "v", SIGNED) + residual(first, SIGNED, "v", SIGNED)
    expected = rounded(total, multiplier("v", SIGNED, SIGNED), SIGNED[1])
    np.testing.assert_array_equal(found, as_float(expected, SIGNED))
    # The image is the only float that is read, and the result the only one that is written.
    assert operators(changed).count("nn.conv2d") == 2


def test_of_two_sums_that_are_added_one_is_stored() -> None:
    def body(emit: Emit, data: Any, given: dict[str, Any]) -> Any:
        image = stored(emit, data, SOURCE)
        shortcut = stored(emit, conv(emit, image, given["u"], padding=0), SIGNED)
        return stored(emit, emit(relax.op.add(shortcut, conv(emit, image, given["w"]))), SIGNED)

    _, found = integers(made(body, "wu"))
    data = quantized(IMAGE, SOURCE)
    shortcut = rounded(sums(data, "u", SOURCE, padding=0), multiplier("u", SOURCE, SIGNED), SIGNED[1])
    total = sums(data, "w", SOURCE) + residual(shortcut, SIGNED, "w", SOURCE)
    np.testing.assert_array_equal(found, as_float(rounded(total, multiplier("w", SOURCE, SIGNED), SIGNED[1]), SIGNED))


def test_relu6_and_pooling_stay_in_integers() -> None:
    def body(emit: Emit, data: Any, given: dict[str, Any]) -> Any:
        total = conv(emit, stored(emit, data, SOURCE), given["w"])
        first = stored(emit, emit(relax.op.clip(total, 0.0, 6.0)), POSITIVE)
        pooled = emit(relax.op.nn.max_pool2d(first, 2, 2))
        return stored(emit, conv(emit, pooled, given["v"]), SIGNED)

    changed, found = integers(made(body, "wv"))
    scaled = sums(quantized(IMAGE, SOURCE), "w", SOURCE)
    first = np.minimum(rounded(scaled, multiplier("w", SOURCE, POSITIVE), 0, low=0.0), int(6 / POSITIVE[0] + 0.5))
    pooled = first.reshape(1, 5, 3, 2, 3, 2).max((3, 5))
    expected = rounded(sums(pooled, "v", POSITIVE), multiplier("v", POSITIVE, SIGNED), SIGNED[1])
    np.testing.assert_array_equal(found, as_float(expected, SIGNED))
    kinds = [str(b.var.ty.dtype) for b in changed["main"].body.blocks[0].bindings if "max_pool2d" in str(b.value)]
    assert kinds == ["uint8"]


def test_a_linear_layer_is_a_convolution_of_one_pixel() -> None:
    rows, matrix = (GENERATOR.standard_normal((extent, 7)).astype("float32") for extent in (2, 3))
    data, weight, bias = tensor("data", 2, 7), tensor("m", 3, 7), tensor("c", 3)
    offset = np.array([0.4, -2.0, 1.0], "float32")

    def body(emit: Emit) -> Any:
        product = emit(relax.op.matmul(stored(emit, data, SOURCE), emit(relax.op.permute_dims(weight))))
        return stored(emit, emit(relax.op.nn.relu(emit(relax.op.add(product, bias)))), POSITIVE)

    passed = IntegerGraph({"m": WeightFormat()})
    changed = passed(graph([data], [weight, bias], body))  # type: ignore[operator]
    state = {"m": matrix, "c": offset}
    values = [integer_array(passed.arrays[var.name], state) for var in changed["main"].params[1:]]
    scales = weight_scales(matrix)
    unit = float(np.float32(SOURCE[0])) * scales.astype(np.float64)
    sums = (quantized(rows, SOURCE).astype(int) - SOURCE[1]) @ np.rint(matrix / scales[:, None]).astype(int).T
    sums = sums + np.rint(offset / unit).astype(int)
    factor = np.asarray(unit / float(np.float32(POSITIVE[0])), np.float32)
    expected = rounded(sums[:, :, None, None], factor, 0, low=0.0)[:, :, 0, 0]
    np.testing.assert_array_equal(run(changed, rows, *values)[0], as_float(expected, POSITIVE))
    assert "matmul" not in operators(changed)


def test_an_operator_without_an_integer_form_reads_floats() -> None:
    def body(emit: Emit, data: Any, given: dict[str, Any]) -> Any:
        return emit(relax.op.sigmoid(conv(emit, stored(emit, data, SOURCE), given["w"])))

    changed, found = integers(made(body, "w"))
    total = sums(quantized(IMAGE, SOURCE), "w", SOURCE) * units("w", SOURCE).reshape(1, -1, 1, 1)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-total)), rtol=1e-5)
    assert operators(changed)[-1] == "sigmoid"


def test_numbers_along_another_axis_are_no_bias() -> None:
    def body(emit: Emit, data: Any, given: dict[str, Any]) -> Any:
        return emit(relax.op.add(conv(emit, stored(emit, data, SOURCE), given["w"]), given["c"]))

    STATE["c"] = GENERATOR.standard_normal(6).astype(np.float32)  # as many as the image has columns
    changed, found = integers(made(body, "wc"))
    total = sums(quantized(IMAGE, SOURCE), "w", SOURCE) * units("w", SOURCE).reshape(1, -1, 1, 1)
    np.testing.assert_allclose(found, total + STATE["c"], rtol=1e-4, atol=1e-4)
    assert "c" in [var.name for var in changed["main"].params]


def test_layers_that_are_not_named_stay_as_they_are() -> None:
    def body(emit: Emit, data: Any, given: dict[str, Any]) -> Any:
        return conv(emit, stored(emit, data, SOURCE), given["w"])

    changed, found = integers(made(body, "w"), names="")
    values = as_float(quantized(IMAGE, SOURCE), SOURCE)
    padded = np.pad(values, [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    np.testing.assert_allclose(found, np.einsum("nchwyx,ocyx->nohw", windows, STATE["w"]), rtol=1e-4, atol=1e-4)
    assert [str(var.ty.dtype) for var in changed["main"].params] == ["float32", "float32"]


@pytest.mark.parametrize("padding", [0, 1])
def test_a_border_holds_the_zero_point(padding: int) -> None:
    def body(emit: Emit, data: Any, given: dict[str, Any]) -> Any:
        return conv(emit, stored(emit, data, SOURCE), given["w"], padding=padding)

    _, found = integers(made(body, "w"))
    total = sums(quantized(IMAGE, SOURCE), "w", SOURCE, padding=padding)
    expected = total.astype(np.float32) * units("w", SOURCE).astype(np.float32).reshape(1, -1, 1, 1)
    np.testing.assert_array_equal(found, expected)
