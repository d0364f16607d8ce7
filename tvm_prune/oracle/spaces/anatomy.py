"""What a fused kernel consists of: the blocks before its anchor, the anchor, and the blocks after."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Anatomy", "dissect"]

# Anchor blocks by the name that legalisation gives them, and the kind of task they make.
_ANCHORS = {"conv2d_nhwc": "conv2d", "group_conv2d_nhwc": "grouped", "matmul": "dense"}


@dataclass(frozen=True)
class Anatomy:
    """Block names of one kernel and the extents of its anchor's loops.

    `kind` is conv2d, depthwise, grouped, dense or other; `channels` the output channels stored and `computed_channels`
    those computed (more when the kernel pads them); both are 0 for other. `stride` is that of the rows of a convolution
    (1 for the rest).
    """

    kind: str
    before: tuple[str, ...]
    anchor: str
    after: tuple[str, ...]
    extents: tuple[int, ...]
    channels: int
    computed_channels: int
    stride: int = 1


def dissect(function: Any) -> Anatomy:
    """Return the anatomy of `function`, a fused and not yet scheduled PrimFunc."""
    from tvm.s_tir import Schedule

    schedule = Schedule(function)
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    names = [str(schedule.get(block).name_hint) for block in blocks]
    anchors = [place for place, name in enumerate(names) if name in _ANCHORS]
    if len(anchors) != 1:
        return Anatomy("other", (), "", tuple(names), (), 0, 0)
    place = anchors[0]
    extents = tuple(int(schedule.get(loop).extent) for loop in schedule.get_loops(blocks[place]))
    kind = _ANCHORS[names[place]]
    output = function.params[-1]
    channels = int(output.shape[-1])
    spatial = len(output.shape)
    computed = extents[spatial - 1]
    if kind == "grouped" and extents[-1] == 1 and computed == int(function.params[1].shape[-1]):
        data = function.params[0]
        kind = "depthwise" if int(data.shape[-1]) == channels else "grouped"
    return Anatomy(
        kind,
        tuple(names[:place]),
        names[place],
        tuple(names[place + 1 :]),
        extents,
        channels,
        computed,
        1 if kind == "dense" else _stride(schedule.get(blocks[place])),
    )


def _stride(anchor: Any) -> int:
    """Return by how many rows the window moves for one output row: the step of the input's index."""
    from tvm.sym import Analyzer

    row, index = anchor.iter_vars[1].var, anchor.reads[0].region[1].min

    def at(place: int) -> int:
        analyzer = Analyzer()
        for item in anchor.iter_vars:
            analyzer.bind(item.var, place if item.var.same_as(row) else 0)
        return int(analyzer.simplify(index))

    return at(1) - at(0)
