"""What a fused kernel consists of: the blocks before its anchor, the anchor, and the blocks after."""

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Anatomy", "dissect"]

# Anchor blocks by the name that legalisation gives them, and the kind of task they make.
_ANCHORS = {
    "conv2d_nhwc": "conv2d",
    "conv2d_packed": "conv2d",
    "winograd_product": "winograd",
    "winograd_words": "winograd",
    "group_conv2d_nhwc": "grouped",
    "matmul": "dense",
    "matmul_packed": "dense",
    "conv2d_dot": "conv2d",
    "bit_products": "bit_serial",
}


_DOT = ("conv2d_dot", "winograd_words")
_PACKING = "bit_planes"
# Where the loop over the computed channels stands, where it is not that of the result's last axis.
_CHANNEL_LOOP = {"winograd": 4, "bit_serial": 5}
_PLAIN = ("conv2d_nhwc", "group_conv2d_nhwc", "matmul")
# Loops of a convolution's anchor, and the axis of the input that each moves over: rows, columns, kernel rows, columns.
_WINDOW = ((1, 1), (2, 2), (4, 1), (5, 2))
# The first loop over the kernel.
_KERNEL_LOOP = 4


@dataclass(frozen=True)
class Anatomy:
    """Block names of one kernel and the extents of its anchor's loops.

    `kind` is conv2d, winograd, depthwise, grouped, dense, bit_serial, bit_packing or other; `channels` the output
    channels stored and `computed_channels` those computed (more when the kernel pads them); both are 0 for the last two
    kinds. `packed` are the lanes of a packed weight (0 = plain). `stride` is that of the rows of a convolution (1 for
    the rest); `square` says that its window reads neighbours and moves by as many columns as rows; `border` that the
    image is padded before (without padding that stage is a mere copy). `integer` says that the data are integers, `dot`
    that the last of the loops are the pairs that a dot product instruction takes.
    """

    kind: str
    before: tuple[str, ...]
    anchor: str
    after: tuple[str, ...]
    extents: tuple[int, ...]
    channels: int
    computed_channels: int
    packed: int = 0
    stride: int = 1
    square: bool = False
    border: bool = False
    integer: bool = False
    dot: bool = False

    @property
    def adjacent(self) -> bool:
        """Whether the window moves by one pixel and reads neighbours: stride and dilation 1 in both directions."""
        return self.square and self.stride == 1

    @property
    def depth(self) -> int:
        """Products of one output in one place of the window; 1 where there is no anchor."""
        return self.extents[-1] * (self.extents[-2] if self.dot else 1) if self.extents else 1


def dissect(function: Any) -> Anatomy:
    """Return the anatomy of `function`, a fused and not yet scheduled PrimFunc."""
    from tvm.s_tir import Schedule

    schedule = Schedule(function)
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    names = [str(schedule.get(block).name_hint) for block in blocks]
    if names[-1] == _PACKING:
        return Anatomy("bit_packing", (), "", tuple(names), (), 0, 0)
    anchors = [place for place, name in enumerate(names) if name in _ANCHORS]
    if len(anchors) != 1 or _grows(schedule.get(blocks[anchors[0]]), schedule.get(blocks[-1])):
        return Anatomy("other", (), "", tuple(names), (), 0, 0)
    place = anchors[0]
    anchor = schedule.get(blocks[place])
    extents = tuple(int(schedule.get(loop).extent) for loop in schedule.get_loops(blocks[place]))
    kind = _ANCHORS[names[place]]
    data, weight, output = function.params[0], function.params[1], function.params[-1]
    channels = int(output.shape[-1])
    computed = extents[_CHANNEL_LOOP.get(kind, len(output.shape) - 1)]
    if kind == "grouped" and extents[-1] == 1 and computed == int(weight.shape[-1]):
        kind = "depthwise" if int(data.shape[-1]) == channels else "grouped"
    moves = kind in ("conv2d", "depthwise", "grouped")
    stride = _step(anchor, 1, 1) if moves else 1
    square = moves and all(
        _step(anchor, loop, axis) == (stride if loop < _KERNEL_LOOP else 1)
        for loop, axis in _WINDOW
        if extents[loop] > 1
    )
    return Anatomy(
        kind,
        tuple(names[:place]),
        names[place],
        tuple(names[place + 1 :]),
        extents,
        channels,
        computed,
        packed=0 if names[place] in _PLAIN else int(weight.shape[-2 if names[place] in _DOT else -1]),
        stride=stride,
        square=square,
        border=any(_shape(schedule.get(block)) != [int(extent) for extent in data.shape] for block in blocks[:place]),
        integer=str(data.dtype) in ("int8", "uint8"),
        dot=names[place] in _DOT,
    )


def _grows(anchor: Any, last: Any) -> bool:
    """Whether a kernel spreads what its anchor computes over a larger image, as squeeze-and-excitation does.

    No tile of the anchor belongs to one tile of the result then.
    """
    spatial = [int(item.dom.extent) for item in anchor.iter_vars if int(item.iter_type) == 0]
    return math.prod(_shape(last)) > math.prod(spatial)


def _shape(block: Any) -> list[int]:
    """Return the extents that a block computes."""
    return [int(item.dom.extent) for item in block.iter_vars if int(item.iter_type) == 0]


def _step(anchor: Any, loop: int, axis: int) -> int:
    """Return by how much the index of the input's `axis` grows for one more of the anchor's `loop`."""
    from tvm.sym import Analyzer

    moved, index = anchor.iter_vars[loop].var, anchor.reads[0].region[axis].min

    def at(place: int) -> int:
        analyzer = Analyzer()
        for item in anchor.iter_vars:
            analyzer.bind(item.var, place if item.var.same_as(moved) else 0)
        return int(analyzer.simplify(index))

    return at(1) - at(0)
