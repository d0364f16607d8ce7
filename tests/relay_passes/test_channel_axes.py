"""Channels are followed through what zeros pass unharmed, and held by everything else."""

from collections.abc import Callable
from typing import Any

import pytest
from tvm import relax

from relay_passes.channel_axes import channel_axes
from relay_passes.hoist_weights import with_weight_entries
from tests.relay_passes.graphs import Emit, graph, tensor

LAYOUT: dict[str, Any] = {"data_layout": "NHWC", "kernel_layout": "HWIO"}
POOLS: dict[str, Any] = {"layout": "NHWC", "out_layout": "NHWC"}


def between(inside: Callable[[Emit, Any], Any], *, read: int = 6) -> set[tuple[int, frozenset[tuple[str, int]]]]:
    """Return the sets of channels of ``first`` (3 -> 6), what `inside` makes of it, and ``last`` (`read` -> 4)."""
    data, first, bias, last = (
        tensor("data", 1, 4, 4, 3),
        tensor("first", 1, 1, 3, 6),
        tensor("bias", 1, 1, 1, 6),
        tensor("last", 1, 1, read, 4),
    )

    def body(emit: Emit) -> Any:
        made = emit(relax.op.add(emit(relax.op.nn.conv2d(data, first, **LAYOUT)), bias))
        return relax.op.nn.conv2d(emit(inside(emit, made)), last, **LAYOUT)

    return {(channels.count, channels.axes) for channels in channel_axes(graph([data], [first, bias, last], body))}


MIDDLE = {(6, frozenset({("first", 3), ("bias", 3), ("last", 2)}))}


@pytest.mark.parametrize(
    "inside",
    [
        lambda emit, x: relax.op.nn.relu(x),
        lambda emit, x: relax.op.clip(x, 0, 6),
        lambda emit, x: relax.op.multiply(x, emit(relax.op.sigmoid(x))),
        lambda emit, x: relax.op.divide(x, relax.const(6.0)),
        lambda emit, x: relax.op.add(relax.const(3.0), x),
        lambda emit, x: relax.op.nn.max_pool2d(x, 2, **POOLS),
        lambda emit, x: relax.op.nn.adaptive_avg_pool2d(x, (1, 1), **POOLS),
        lambda emit, x: relax.op.mean(x, [1, 2], keepdims=True),
        lambda emit, x: relax.op.reshape(x, (1, 2, 8, 6)),
    ],
    ids=["relu", "clip", "silu", "divided by a number", "shifted", "max pool", "global pool", "mean", "reshaped rows"],
)
def test_channels_pass(inside: Callable[[Emit, Any], Any]) -> None:
    assert between(inside) == MIDDLE


@pytest.mark.parametrize(
    ("inside", "read"),
    [
        (lambda emit, x: relax.op.nn.softmax(x), 6),
        (lambda emit, x: relax.op.divide(x, emit(relax.op.exp(x))), 6),
        (lambda emit, x: relax.op.rsqrt(x), 6),
        (lambda emit, x: relax.op.concat([x, x], 3), 12),
        (lambda emit, x: relax.op.subtract(x, emit(relax.op.mean(x, [3], keepdims=True))), 6),
        (lambda emit, x: relax.op.reshape(x, (1, 4, 2, 12)), 12),
        (lambda emit, x: relax.op.permute_dims(x, [0, 3, 1, 2]), 4),
        (lambda emit, x: relax.op.nn.max_pool2d(x, 2, layout="NCHW"), 5),
    ],
    ids=["softmax", "ratio", "rsqrt", "concat", "centred", "reshaped", "permuted", "pooled the other way"],
)
def test_channels_are_held(inside: Callable[[Emit, Any], Any], read: int) -> None:
    assert between(inside, read=read) == set()


def test_inputs_and_outputs_stay() -> None:
    data, weight = tensor("data", 2, 3), tensor("weight", 3, 5)
    assert channel_axes(graph([data], [weight], lambda emit: relax.op.matmul(data, weight))) == ()


def test_a_residual_and_a_depthwise_layer_share_the_channels() -> None:
    data = tensor("data", 1, 4, 4, 3)
    weights = [tensor("stem", 1, 1, 3, 6), tensor("deep", 3, 3, 1, 6), tensor("last", 6, 4)]

    def body(emit: Emit) -> Any:
        x = emit(relax.op.nn.conv2d(data, weights[0], **LAYOUT))
        x = emit(relax.op.add(x, emit(relax.op.nn.conv2d(x, weights[1], groups=6, padding=1, **LAYOUT))))
        x = emit(relax.op.squeeze(emit(relax.op.nn.adaptive_avg_pool2d(x, (1, 1), **POOLS)), [1, 2]))
        return relax.op.matmul(x, weights[2])

    (found,) = channel_axes(graph([data], weights, body))
    assert (found.count, found.axes) == (6, frozenset({("stem", 3), ("deep", 3), ("last", 0)}))


def test_axes_are_those_of_the_weight_before_its_layout_was_changed() -> None:
    data, first, bias, last = tensor("data", 2, 3), tensor("first", 3, 6), tensor("bias", 1, 6), tensor("last", 6, 4)

    def body(emit: Emit) -> Any:
        return relax.op.matmul(emit(relax.op.add(emit(relax.op.matmul(data, first)), bias)), last)

    module = graph([data], [first, bias, last], body)
    changes = {"first": [["permute", [1, 0]]], "bias": [["reshape", [1, 6]]], "last": [["permute", [1, 0]]]}
    entries = [{"name": name, "changes": change} for name, change in changes.items()]
    module["main"] = with_weight_entries(module["main"], entries)
    (found,) = channel_axes(module)
    assert found.axes == frozenset({("first", 0), ("bias", 0), ("last", 1)})
    entries[2]["changes"] = [["reshape", [4, 6]], ["permute", [1, 0]]]
    module["main"] = with_weight_entries(module["main"], entries)
    assert channel_axes(module) == ()
