"""Instructions that multiply four pairs of bytes and add them to a 32-bit sum, in every lane of a vector.

x86 has them for unsigned data and signed weights (VNNI: vpdpbusd). Each is described to the schedules as what it
computes, which is also what runs where a processor has none.
"""

from typing import Any

from tvm_prune.oracle.target import Target

__all__ = ["DEPTH", "description", "implementation", "instruction", "register"]

# Pairs of bytes that go into one lane.
DEPTH = 4
# Kernels count in it; a description in another integer type would not be recognised.
_INDEX = "int64"
# LLVM's name of the instruction by lanes.
_VNNI = {16: "llvm.x86.avx512.vpdpbusd.512", 8: "llvm.x86.avx512.vpdpbusd.256", 4: "llvm.x86.avx512.vpdpbusd.128"}


def instruction(target: Target, lanes: int) -> str | None:
    """Return the name that schedules know the target's instruction of `lanes` by, None if it has none."""
    if target.dot_product == "vnni" and lanes in _VNNI:
        return f"tvm_prune_dot_{lanes}_{target.dot_product}"
    return None


def register() -> None:
    """Make the instructions known to the schedules of this process."""
    from tvm.s_tir import TensorIntrin

    for lanes in _VNNI:
        name = f"tvm_prune_dot_{lanes}_vnni"
        if TensorIntrin.get(name, allow_missing=True) is None:
            TensorIntrin.register(name, description(lanes), implementation(lanes))


def description(lanes: int) -> Any:
    """Return what an instruction of `lanes` computes: sums[i] += the dot product of data[0:4] and weights[i, 0:4]."""
    from tvm import s_tir, tirx

    data, weights, sums = _buffers(lanes)
    lane, pair = tirx.Var("i", _INDEX), tirx.Var("k", _INDEX)
    own_lane, own_pair = tirx.Var("vi", _INDEX), tirx.Var("vk", _INDEX)
    product = tirx.Cast("int32", data[own_pair]) * tirx.Cast("int32", weights[own_lane, own_pair])
    update = s_tir.SBlock(
        [
            tirx.IterVar(_range(lanes), own_lane, tirx.IterVar.DataPar),
            tirx.IterVar(_range(DEPTH), own_pair, tirx.IterVar.CommReduce),
        ],
        [_point(sums, own_lane), _point(data, own_pair), _point(weights, own_lane, own_pair)],
        [_point(sums, own_lane)],
        "update",
        tirx.BufferStore(sums, sums[own_lane] + product, [own_lane]),
    )
    body = s_tir.SBlockRealize([lane, pair], True, update)
    for variable, extent in ((pair, DEPTH), (lane, lanes)):
        body = tirx.For(variable, _index(0), _index(extent), tirx.ForKind.SERIAL, body)
    return _function(data, weights, sums, body)


def implementation(lanes: int) -> Any:
    """Return the instruction of VNNI itself, of the same signature."""
    from tvm import tirx

    data, weights, sums = _buffers(lanes)
    four = tirx.reinterpret("int32", data.vload([0], "uint8x4"))
    total = tirx.call_llvm_pure_intrin(
        f"int32x{lanes}",
        _VNNI[lanes],
        sums.vload([0], f"int32x{lanes}"),
        tirx.reinterpret(f"uint8x{DEPTH * lanes}", tirx.Broadcast(four, lanes)),
        weights.vload([0, 0], f"int8x{DEPTH * lanes}"),
    )
    return _function(data, weights, sums, tirx.BufferStore(sums, total, [tirx.Ramp(_index(0), _index(1), lanes)]))


def _buffers(lanes: int) -> tuple[Any, Any, Any]:
    from tvm import tirx

    return (
        tirx.decl_buffer((_index(DEPTH),), "uint8", "data", offset_factor=1),
        tirx.decl_buffer((_index(lanes), _index(DEPTH)), "int8", "weights", offset_factor=1),
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
