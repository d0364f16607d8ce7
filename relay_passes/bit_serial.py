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

from dataclasses import dataclass
from typing import Any

__all__ = ["BitWork", "bit_serial_function", "packing_function"]

# Kernels count in it.
_INDEX = "int64"
# vpshufb by the bytes of a vector.
_LOOK_UP = {16: "llvm.x86.ssse3.pshuf.b.128", 32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}


@dataclass(frozen=True, kw_only=True)
class BitWork:
    """A convolution of few bits: the image [N, H, W, I] of bytes, channels of the result, the window, and the words.

    The border, `padding` (top, left, bottom, right) wide, is `zero`. Bits of words of `word` bits are input channels;
    weights have `lanes` output channels side by side. `table` says that the lowest bits are read by a table.
    """

    image: tuple[int, int, int, int]
    out_channels: int
    kernel: tuple[int, int]
    stride: int
    padding: tuple[int, int, int, int]
    zero: int
    w_bits: int
    a_bits: int
    word: int
    lanes: int
    table: bool

    @property
    def words(self) -> int:
        """Words that the input channels fill."""
        return -(-self.image[3] // self.word)

    @property
    def result(self) -> tuple[int, int, int, int]:
        """The shape of the result."""
        batch, height, width, *_ = self.planes
        down, across = ((e - k) // self.stride + 1 for e, k in zip((height, width), self.kernel, strict=True))
        return batch, down, across, self.out_channels

    @property
    def planes(self) -> tuple[int, ...]:
        """The shape of the activations' planes: [N, rows and columns with the border, words, a_bits]."""
        batch, height, width, _ = self.image
        top, left, bottom, right = self.padding
        return batch, top + height + bottom, left + width + right, self.words, self.a_bits

    @property
    def weight(self) -> tuple[int, ...]:
        """The shape of packed weights: [O / lanes, kernel rows, columns, words, planes, lanes]."""
        return self.out_channels // self.lanes, *self.kernel, self.words, self.w_bits, self.lanes


def bit_serial_function(work: BitWork) -> Any:
    """Return the PrimFunc of (activations uint8 [N, H, W, I], packed weights, sums int32 [N, H', W', O]).

    Bits of an activation above `work.a_bits` are not looked at.
    """
    return _joined(work, _sums(work))


def packing_function(work: BitWork) -> Any:
    """Return the PrimFunc of (activations, their planes) alone: what of a convolution's time is packing."""
    return _joined(work, None)


def _joined(work: BitWork, sums: Any) -> Any:
    """Return the PrimFunc of the stages that pack, and of those of `sums` (planes, weights, result) if there are any.

    Packing is no expression of single elements, as tensor expressions are, so it is put between them by hand.
    """
    from tvm import s_tir, tirx

    padded = _padded(work)
    if padded is None:
        source = data = tirx.decl_buffer([tirx.IntImm(_INDEX, e) for e in work.image], "uint8", "data")
        before, inner = [], []
    else:
        data, source = padded.params
        before, inner = [padded.body.block.body], [source]
    if sums is None:
        planes = tirx.decl_buffer([tirx.IntImm(_INDEX, e) for e in work.planes], f"uint{work.word}", "bit_planes")
        params, after = [data, planes], []
    else:
        planes, *others = sums.params
        params, after = [data, *others], [sums.body.block.body]
        inner += [planes, *sums.body.block.alloc_buffers]
    stages = [*before, _packing(source, planes, work), *after]
    body = tirx.SeqStmt(stages) if len(stages) > 1 else stages[0]
    root = s_tir.SBlock([], [], [], "root", body, alloc_buffers=inner)
    return tirx.PrimFunc(params, s_tir.SBlockRealize([], True, root)).with_attr("tirx.noalias", True)


def _padded(work: BitWork) -> Any:
    """Return the PrimFunc of (activations, the same with a border and whole words), None where nothing is missing."""
    from tvm import te, tirx

    _, rows, columns, channels = work.image
    top, left, *_ = work.padding
    bordered = any(work.padding)
    if not bordered and channels % work.word == 0:
        return None
    data = te.placeholder(work.image, "uint8", "data")
    zero, none = tirx.const(work.zero, "uint8"), tirx.const(0, "uint8")

    def value(n: Any, y: Any, x: Any, c: Any) -> Any:
        found = data[n, y - top, x - left, c]
        if bordered:
            inside = (y >= top, y < rows + top, x >= left, x < columns + left)
            found = tirx.if_then_else(tirx.all(*inside), found, zero)
        # Channels that fill up a word are no part of the border: they add nothing.
        return found if channels % work.word == 0 else tirx.if_then_else(c < channels, found, none)

    whole = (*work.planes[:3], work.words * work.word)
    return _function([data, te.compute(whole, value, name="padded")])


def _packing(source: Any, planes: Any, work: BitWork) -> Any:
    """Return the stage that writes `planes` of the bytes of `source`."""
    from tvm import ir, s_tir, tirx

    def number(value: int) -> Any:
        return tirx.IntImm(_INDEX, value)

    bits = work.word
    *extents, count = (int(extent) for extent in planes.shape)
    # One turn for all planes: a stage is moved by how its loops tell which region it writes.
    extents = [*extents, 1]
    loops, own = ([tirx.Var(f"{kind}{name}", _INDEX) for name in "nyxwp"] for kind in ("", "v_"))
    *pixel, word, group = own
    bytes_of_word = source[(*pixel, tirx.Ramp(word * bits, number(1), bits))]
    stores = []
    for plane in range(count):
        is_set = _is_set(bytes_of_word, plane, bits, table=work.table)
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


def _is_set(data: Any, plane: int, lanes: int, *, table: bool) -> Any:
    """Return for each of `lanes` bytes whether the bit of `plane` is set, as a vector of truth values."""
    from tvm import tirx

    def all_of(value: int) -> Any:
        return tirx.Broadcast(tirx.const(value, "uint8"), lanes)

    if plane == 0 and table:
        twice = tirx.Ramp(tirx.const(0, "uint8"), tirx.const(2, "uint8"), lanes)
        data, plane = tirx.call_llvm_pure_intrin(f"uint8x{lanes}", _LOOK_UP[lanes], twice, data & all_of(15)), 1
    return tirx.NE(data & all_of(1 << plane), all_of(0))


def _sums(work: BitWork) -> Any:
    """Return the PrimFunc of (planes of the activations, packed weights, result)."""
    from tvm import te, tirx

    word, lanes, stride, result = f"uint{work.word}", work.lanes, work.stride, work.result
    planes, weight = te.placeholder(work.planes, word, "bit_planes"), te.placeholder(work.weight, word, "weight")
    ry, rx = te.reduce_axis((0, work.kernel[0]), "ry"), te.reduce_axis((0, work.kernel[1]), "rx")
    rw = te.reduce_axis((0, work.words), "rw")
    i, j = te.reduce_axis((0, work.w_bits), "ri"), te.reduce_axis((0, work.a_bits), "rj")

    def population(n: Any, y: Any, x: Any, i: Any, j: Any, c: Any) -> Any:
        both = planes[n, y * stride + ry, x * stride + rx, rw, j] & weight[c // lanes, ry, rx, rw, i, c % lanes]
        return te.sum(tirx.popcount(both), axis=[ry, rx, rw])

    products = te.compute((*result[:3], work.w_bits, work.a_bits, result[3]), population, name="bit_products")

    def shifted(n: Any, y: Any, x: Any, c: Any) -> Any:
        value = (products[n, y, x, i, j, c].astype("uint32") << (i + j).astype("uint32")).astype("int32")
        # Two's complement: the last plane of the weights counts negative.
        signed = tirx.Select(i == work.w_bits - 1, -value, value) if work.w_bits > 1 else value
        return te.sum(signed, axis=[i, j])

    sums = te.compute(result, shifted, name="bit_serial")
    return _function([planes, weight, _bipolar(work, planes, sums) if work.w_bits == 1 else sums])


def _bipolar(work: BitWork, planes: Any, sums: Any) -> Any:
    from tvm import te, tirx

    batch, height, width, words, _ = planes.shape
    rw, rj = te.reduce_axis((0, words), "rw"), te.reduce_axis((0, work.a_bits), "rj")
    ry, rx = te.reduce_axis((0, work.kernel[0]), "ry"), te.reduce_axis((0, work.kernel[1]), "rx")
    pixel = te.compute(
        (batch, height, width),
        lambda n, y, x: te.sum(
            (tirx.popcount(planes[n, y, x, rw, rj]).astype("uint32") << rj.astype("uint32")).astype("int32"),
            axis=[rw, rj],
        ),
        name="activation_sum",
    )
    window = te.compute(
        work.result[:3],
        lambda n, y, x: te.sum(pixel[n, y * work.stride + ry, x * work.stride + rx], axis=[ry, rx]),
        name="window_sum",
    )
    return te.compute(sums.shape, lambda n, y, x, c: 2 * sums[n, y, x, c] - window[n, y, x], name="bipolar")


def _function(tensors: list[Any]) -> Any:
    from tvm import te

    return te.create_prim_func(tensors, index_dtype_override="int64").without_attr("global_symbol")
