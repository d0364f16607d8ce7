"""The kernel of a convolution of few bits, unscheduled: planes of the activations, populations, and their shifted sum.

Stages by their names: ``padded`` (the border, and channels up to whole words), ``bit_planes``, ``bit_products`` (the
populations of each pair of planes), ``bit_serial`` (their sum, shifted). Weights of one bit stand for -1 and +1, so

    sum(v * x) = 2 * sum of the activations where a bit is set - sum of all activations in the window,

of which the second, ``activation_sum`` and then ``window_sum``, is one number for a pixel: ``bipolar`` subtracts it.

A word of a plane is one comparison of a vector of bytes, whose result LLVM takes as a word of as many bits: vptestmb
with AVX-512, vpmovmskb with AVX2, a few instructions on Arm.

With AVX-512BW, LLVM would take the lowest bits by vpmovb2m, and LLVM 22 miscompiles that where the word has several
uses: it puts vpmovmskb in its place and forgets who else read the mask (llvm-project issue 174871). There the lowest
plane is read from bytes doubled by a table (vpshufb), a bit higher, of which LLVM knows nothing: vptestmb again.
"""

from typing import Any

from tvm_prune.oracle.bit_conv import BitConv, WordForm
from tvm_prune.oracle.target import Target

__all__ = ["bit_serial_function", "packing_function"]

# Kernels count in it.
_INDEX = "int64"
# vpshufb by the bytes of a vector.
_LOOK_UP = {16: "llvm.x86.ssse3.pshuf.b.128", 32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}


def bit_serial_function(conv: BitConv, form: WordForm, target: Target) -> Any:
    """Return the PrimFunc of (activations uint8 [N, H, W, I], packed weights, sums int32 [N, H', W', O]).

    Bits of an activation above `conv.a_bits` are not looked at.
    """
    return _joined(conv, form, target, _sums(conv, form))


def packing_function(conv: BitConv, form: WordForm, target: Target) -> Any:
    """Return the PrimFunc of (activations, their planes) alone: what of a convolution's time is packing."""
    return _joined(conv, form, target, None)


def _plane_shape(conv: BitConv, form: WordForm) -> tuple[int, ...]:
    """Return the shape of the activations' planes: [N, H + 2p, W + 2p, words, a_bits]."""
    height, width = conv.height + 2 * conv.padding, conv.width + 2 * conv.padding
    return conv.batch, height, width, form.words(conv.in_channels), conv.a_bits


def _joined(conv: BitConv, form: WordForm, target: Target, sums: Any) -> Any:
    """Return the PrimFunc of the stages that pack, and of those of `sums` (planes, weights, result) if there are any.

    Packing is no expression of single elements, as tensor expressions are, so it is put between them by hand.
    """
    from tvm import s_tir, tirx

    padded = _padded(conv, form)
    if padded is None:
        source = data = tirx.decl_buffer((conv.batch, conv.height, conv.width, conv.in_channels), "uint8", "data")
        before, inner = [], []
    else:
        data, source = padded.params
        before, inner = [padded.body.block.body], [source]
    if sums is None:
        word = f"uint{form.bits}"
        planes = tirx.decl_buffer([tirx.IntImm(_INDEX, e) for e in _plane_shape(conv, form)], word, "bit_planes")
        params, after = [data, planes], []
    else:
        planes, *others = sums.params
        params, after = [data, *others], [sums.body.block.body]
        inner += [planes, *sums.body.block.alloc_buffers]
    stages = [*before, _packing(source, planes, form.bits, target), *after]
    body = tirx.SeqStmt(stages) if len(stages) > 1 else stages[0]
    root = s_tir.SBlock([], [], [], "root", body, alloc_buffers=inner)
    return tirx.PrimFunc(params, s_tir.SBlockRealize([], True, root)).with_attr("tirx.noalias", True)


def _padded(conv: BitConv, form: WordForm) -> Any:
    """Return the PrimFunc of (activations, the same with a border and whole words), None where nothing is missing."""
    from tvm import te, tirx

    channels, padding = conv.in_channels, conv.padding
    batch, height, width, words, _ = _plane_shape(conv, form)
    if not padding and channels % form.bits == 0:
        return None
    data = te.placeholder((conv.batch, conv.height, conv.width, channels), "uint8", "data")
    zero, none = tirx.const(conv.zero, "uint8"), tirx.const(0, "uint8")

    def value(n: Any, y: Any, x: Any, c: Any) -> Any:
        found = data[n, y - padding, x - padding, c]
        if padding:
            inside = (y >= padding, y < conv.height + padding, x >= padding, x < conv.width + padding)
            found = tirx.if_then_else(tirx.all(*inside), found, zero)
        # Channels that fill up a word are no part of the border: they add nothing.
        return found if channels % form.bits == 0 else tirx.if_then_else(c < channels, found, none)

    return _function([data, te.compute((batch, height, width, words * form.bits), value, name="padded")])


def _packing(source: Any, planes: Any, bits: int, target: Target) -> Any:
    """Return the stage that writes `planes` of the bytes of `source`."""
    from tvm import ir, s_tir, tirx

    def number(value: int) -> Any:
        return tirx.IntImm(_INDEX, value)

    *extents, count = (int(extent) for extent in planes.shape)
    # One turn for all planes: a stage is moved by how its loops tell which region it writes.
    extents = [*extents, 1]
    loops, own = ([tirx.Var(f"{kind}{name}", _INDEX) for name in "nyxwp"] for kind in ("", "v_"))
    *pixel, word, group = own
    bytes_of_word = source[(*pixel, tirx.Ramp(word * bits, number(1), bits))]
    stores = []
    for plane in range(count):
        is_set = _is_set(bytes_of_word, plane, bits, target)
        # `tirx.reinterpret` as a function refuses truth values: to TVM each is a byte, to LLVM a bit.
        value = tirx.call_intrin(str(planes.dtype), "tirx.reinterpret", is_set)
        stores.append(tirx.BufferStore(planes, value, [*pixel, word, group * count + plane]))

    def region(buffer: Any, first: Any, extent: int) -> Any:
        points = [ir.Range.from_min_extent(each, number(1)) for each in own[: len(buffer.shape) - 1]]
        return tirx.BufferRegion(buffer, [*points, ir.Range.from_min_extent(first, number(extent))])

    block = s_tir.SBlock(
        [
            tirx.IterVar(ir.Range(number(0), number(extent)), variable, tirx.IterVar.DataPar)
            for extent, variable in zip(extents, own, strict=True)
        ],
        [region(source, word * bits, bits)],
        [region(planes, group * count, count)],
        "bit_planes",
        tirx.SeqStmt(stores) if count > 1 else stores[0],
    )
    body = s_tir.SBlockRealize(loops, True, block)
    for variable, extent in reversed(list(zip(loops, extents, strict=True))):
        body = tirx.For(variable, number(0), number(extent), tirx.ForKind.SERIAL, body)
    return body


def _is_set(data: Any, plane: int, lanes: int, target: Target) -> Any:
    """Return for each of `lanes` bytes whether the bit of `plane` is set, as a vector of truth values."""
    from tvm import tirx

    def all_of(value: int) -> Any:
        return tirx.Broadcast(tirx.const(value, "uint8"), lanes)

    if plane == 0 and target.architecture == "x86_64" and target.has_feature("avx512bw"):
        twice = tirx.Ramp(tirx.const(0, "uint8"), tirx.const(2, "uint8"), lanes)
        data, plane = tirx.call_llvm_pure_intrin(f"uint8x{lanes}", _LOOK_UP[lanes], twice, data & all_of(15)), 1
    return tirx.NE(data & all_of(1 << plane), all_of(0))


def _sums(conv: BitConv, form: WordForm) -> Any:
    """Return the PrimFunc of (planes of the activations, packed weights, result)."""
    from tvm import te, tirx

    word, lanes = f"uint{form.bits}", form.lanes
    planes = te.placeholder(_plane_shape(conv, form), word, "bit_planes")
    weight = te.placeholder(form.weight_shape(conv), word, "weight")
    ry, rx = te.reduce_axis((0, conv.kernel[0]), "ry"), te.reduce_axis((0, conv.kernel[1]), "rx")
    rw = te.reduce_axis((0, form.words(conv.in_channels)), "rw")
    i, j = te.reduce_axis((0, conv.w_bits), "ri"), te.reduce_axis((0, conv.a_bits), "rj")
    stride, result = conv.stride, (conv.batch, conv.out_height, conv.out_width, conv.out_channels)

    def population(n: Any, y: Any, x: Any, i: Any, j: Any, c: Any) -> Any:
        both = planes[n, y * stride + ry, x * stride + rx, rw, j] & weight[c // lanes, ry, rx, rw, i, c % lanes]
        return te.sum(tirx.popcount(both), axis=[ry, rx, rw])

    products = te.compute((*result[:3], conv.w_bits, conv.a_bits, result[3]), population, name="bit_products")

    def shifted(n: Any, y: Any, x: Any, c: Any) -> Any:
        value = (products[n, y, x, i, j, c].astype("uint32") << (i + j).astype("uint32")).astype("int32")
        # Two's complement: the last plane of the weights counts negative.
        signed = tirx.Select(i == conv.w_bits - 1, -value, value) if conv.w_bits > 1 else value
        return te.sum(signed, axis=[i, j])

    sums = te.compute(result, shifted, name="bit_serial")
    return _function([planes, weight, _bipolar(conv, planes, sums) if conv.w_bits == 1 else sums])


def _bipolar(conv: BitConv, planes: Any, sums: Any) -> Any:
    from tvm import te, tirx

    batch, height, width, words, _ = planes.shape
    rw, rj = te.reduce_axis((0, words), "rw"), te.reduce_axis((0, conv.a_bits), "rj")
    ry, rx = te.reduce_axis((0, conv.kernel[0]), "ry"), te.reduce_axis((0, conv.kernel[1]), "rx")
    pixel = te.compute(
        (batch, height, width),
        lambda n, y, x: te.sum(
            (tirx.popcount(planes[n, y, x, rw, rj]).astype("uint32") << rj.astype("uint32")).astype("int32"),
            axis=[rw, rj],
        ),
        name="activation_sum",
    )
    window = te.compute(
        (conv.batch, conv.out_height, conv.out_width),
        lambda n, y, x: te.sum(pixel[n, y * conv.stride + ry, x * conv.stride + rx], axis=[ry, rx]),
        name="window_sum",
    )
    return te.compute(sums.shape, lambda n, y, x, c: 2 * sums[n, y, x, c] - window[n, y, x], name="bipolar")


def _function(tensors: list[Any]) -> Any:
    from tvm import te

    return te.create_prim_func(tensors, index_dtype_override="int64").without_attr("global_symbol")
