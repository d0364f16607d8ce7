"""Dot product instructions for the schedules: four pairs of bytes, or two of words, and their sum in every lane.

Each is described to the schedules as what it computes, which is also what runs where a processor has none; what it is
replaced by is `dot_sums.py`'s.
"""

from dataclasses import dataclass
from typing import Any

from tvm_prune.oracle.dot_products import kinds
from tvm_prune.oracle.spaces.dot_sums import SUMS, WORD_SUMS
from tvm_prune.oracle.target import Target

__all__ = ["BYTES", "WORDS", "Operands", "description", "implementation", "instruction", "register"]


@dataclass(frozen=True)
class Operands:
    """What an instruction multiplies: types of data and weights, and how many pairs go into one lane."""

    name: str
    data: str
    weights: str
    depth: int


BYTES = Operands("bytes", "uint8", "int8", 4)
# Instructions for words are those of the processor's kind for bytes; every kind has them in the same lanes.
WORDS = Operands("words", "int16", "int16", 2)
# Kernels count in it; a description in another integer type would not be recognised.
_INDEX = "int64"


def instruction(target: Target, lanes: int, operands: Operands = BYTES) -> str | None:
    """Return the name that schedules know the target's instruction of `lanes` by, None if it has none."""
    found = target.dot_product
    return _name(found.kind, lanes, operands) if found is not None and lanes in found.lanes else None


def register() -> None:
    """Make the instructions known to the schedules of this process, and what they are made of to its compiler."""
    from tvm.s_tir import TensorIntrin

    from relay_passes.wrapping import register_wrapping

    register_wrapping()
    for each in kinds():
        for lanes in each.lanes:
            for operands in (BYTES, WORDS):
                name = _name(each.kind, lanes, operands)
                if TensorIntrin.get(name, allow_missing=True) is None:
                    made = implementation(each.kind, lanes, operands)
                    TensorIntrin.register(name, description(lanes, operands), made)


def _name(kind: str, lanes: int, operands: Operands) -> str:
    return f"tvm_prune_dot_{lanes}_{kind}" + ("" if operands is BYTES else f"_{operands.name}")


def description(lanes: int, operands: Operands = BYTES) -> Any:
    """Return what an instruction of `lanes` computes: sums[i] += the dot product of data[0:4] and weights[i, 0:4].

    Of words it is data[0:2] and weights[i, 0:2].
    """
    from tvm import s_tir, tirx

    data, weights, sums = _buffers(lanes, operands)
    lane, pair = tirx.Var("i", _INDEX), tirx.Var("k", _INDEX)
    own_lane, own_pair = tirx.Var("vi", _INDEX), tirx.Var("vk", _INDEX)
    product = tirx.Cast("int32", data[own_pair]) * tirx.Cast("int32", weights[own_lane, own_pair])
    update = s_tir.SBlock(
        [
            tirx.IterVar(_range(lanes), own_lane, tirx.IterVar.DataPar),
            tirx.IterVar(_range(operands.depth), own_pair, tirx.IterVar.CommReduce),
        ],
        [_point(sums, own_lane), _point(data, own_pair), _point(weights, own_lane, own_pair)],
        [_point(sums, own_lane)],
        "update",
        tirx.BufferStore(sums, sums[own_lane] + product, [own_lane]),
    )
    body = s_tir.SBlockRealize([lane, pair], True, update)
    for variable, extent in ((pair, operands.depth), (lane, lanes)):
        body = tirx.For(variable, _index(0), _index(extent), tirx.ForKind.SERIAL, body)
    return _function(data, weights, sums, body)


def implementation(kind: str, lanes: int, operands: Operands = BYTES) -> Any:
    """Return an instruction itself, of the same signature."""
    from tvm import tirx

    data, weights, sums = _buffers(lanes, operands)
    total = (SUMS if operands is BYTES else WORD_SUMS)[kind](
        data.vload([0], f"{operands.data}x{operands.depth}"),
        weights.vload([0, 0], f"{operands.weights}x{operands.depth * lanes}"),
        sums.vload([0], f"int32x{lanes}"),
        lanes,
    )
    return _function(data, weights, sums, tirx.BufferStore(sums, total, [tirx.Ramp(_index(0), _index(1), lanes)]))


def _buffers(lanes: int, operands: Operands) -> tuple[Any, Any, Any]:
    from tvm import tirx

    depth = _index(operands.depth)
    return (
        tirx.decl_buffer((depth,), operands.data, "data", offset_factor=1),
        tirx.decl_buffer((_index(lanes), depth), operands.weights, "weights", offset_factor=1),
        tirx.decl_buffer((_index(lanes),), "int32", "sums", offset_factor=1, scope="local"),
    )


def _point(buffer: Any, *index: Any) -> Any:
    from tvm import ir, tirx

    return tirx.BufferRegion(buffer, [ir.Range.from_min_extent(each, _index(1)) for each in index])


def _index(number: int) -> Any:
    from tvm import tirx

    return tirx.IntImm(_INDEX, number)


def _range(extent: int) -> Any:
    from tvm import ir

    return ir.Range(_index(0), _index(extent))


def _function(data: Any, weights: Any, sums: Any, body: Any) -> Any:
    """Return the PrimFunc of (data, weights, sums) whose root block reads all and writes the sums."""
    from tvm import ir, s_tir, tirx

    def whole(buffer: Any) -> Any:
        return tirx.BufferRegion(buffer, [ir.Range(_index(0), extent) for extent in buffer.shape])

    root = s_tir.SBlock([], [whole(sums), whole(data), whole(weights)], [whole(sums)], "root", body)
    return tirx.PrimFunc([data, weights, sums], s_tir.SBlockRealize([], True, root))
