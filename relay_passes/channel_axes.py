"""Which axes of which weights are the same channels, as far as more channels of zeros would change nothing.

Follows the last axis of every value through a channels-last graph. A channel whose weights and biases are all zero
holds f(0) behind an activation f, and whoever reads it multiplies it by zero: the network computes what it did. That
holds for the operators below; the channels of any other operator, of the inputs and of the outputs stay as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm import ir, relax

from relay_passes.hoist_weights import weight_entries

__all__ = ["Channels", "channel_axes"]

# Finite at 0, and one value in, one value out.
_UNARY = frozenset(
    "abs astype clip erf exp negative nn.gelu nn.gelu_tanh nn.leakyrelu nn.relu nn.relu6 nn.silu sigmoid tanh".split()
)
_BINARY = frozenset("add maximum minimum multiply right_shift subtract".split())
_POOLS = frozenset("nn.adaptive_avg_pool2d nn.avg_pool2d nn.max_pool2d".split())

# An axis of a weight as torch lays it out, (placeholder, axis), or the last axis of a value, ("", number).
_Node = tuple[str, int]


@dataclass(frozen=True)
class Channels:
    """One set of channels: how many, and the weights' axes (placeholder, axis in torch's layout) that they are."""

    count: int
    axes: frozenset[tuple[str, int]]


def channel_axes(module: ir.IRModule) -> tuple[Channels, ...]:
    """Return the sets of channels of ``main`` that could be wider, of a graph as lowering leaves it."""
    return tuple(_Follower(module).sets())


class _Follower:
    def __init__(self, module: ir.IRModule) -> None:
        main = module["main"]
        count = int(main.attrs["num_input"])
        self._parent: dict[_Node, _Node] = {}
        self._pinned: set[_Node] = set()
        self._count: dict[_Node, int] = {}
        self._axes: dict[relax.Var, list[_Node | None]] = {}
        self._number: dict[relax.Var, int] = {}
        for var, entry in zip(main.params[count:], weight_entries(module), strict=True):
            self._axes[var] = self._weight_axes(var, entry)
        for var in main.params[:count]:
            self._pin(var)
        for block in main.body.blocks:
            for binding in block.bindings:
                self._follow(binding.var, binding.value)
        self._pin(main.body.body)

    def sets(self) -> Iterator[Channels]:
        """Yield the sets that nothing holds."""
        pinned = {self._root(node) for node in self._pinned}
        # The rows and columns of a filter are nobody's channels.
        carried = {self._root(("", number)) for number in self._number.values()}
        members: dict[_Node, set[_Node]] = {}
        for axis in self._count:
            members.setdefault(self._root(axis), set()).add(axis)
        for root, axes in members.items():
            counts = {self._count[axis] for axis in axes}
            if root in carried - pinned and len(counts) == 1:
                yield Channels(counts.pop(), frozenset(axes))

    # --- sets of equal channels ---------------------------------------------------------------------------------------

    def _root(self, node: _Node) -> _Node:
        while node in self._parent:
            node = self._parent[node]
        return node

    def _join(self, *nodes: _Node | None) -> None:
        """Put axes into one set; None, an axis of one entry, is in none."""
        first, *rest = dict.fromkeys(self._root(node) for node in nodes if node is not None)
        self._parent.update(dict.fromkeys(rest, first))

    def _value(self, var: relax.Var) -> _Node:
        return "", self._number.setdefault(var, len(self._number))

    def _pin(self, value: Any) -> None:
        """Leave the channels of `value` as they are: of a weight all axes."""
        if isinstance(value, relax.Tuple):
            for part in value.fields:
                self._pin(part)
        elif value in self._axes:
            self._pinned.update(axis for axis in self._axes[value] if axis is not None)
        elif isinstance(value, relax.Var):
            self._pinned.add(self._value(value))

    def _weight_axes(self, var: relax.Var, entry: dict[str, Any]) -> list[_Node | None]:
        """Return for each axis of a weight in the graph which axis it is in torch (None: a new one of extent 1)."""
        name, shape = str(entry["name"]), _extents(var)
        axes: list[_Node | None] = []
        known = True
        for kind, argument in entry["changes"]:
            rank_one = kind == "reshape" and sorted(argument)[:-1] == [1] * (len(argument) - 1)
            if kind == "permute":
                axes = [(axes or [(name, axis) for axis in range(len(argument))])[axis] for axis in argument]
            elif rank_one and not axes:
                axes = [(name, 0) if extent == max(argument) else None for extent in argument]
            else:
                known = False
        axes = axes or [(name, axis) for axis in range(len(shape))]
        if len(axes) != len(shape):
            axes, known = [(name, axis) for axis in range(len(shape))], False
        for axis, extent in zip(axes, shape, strict=True):
            if axis is not None:
                self._count[axis] = extent
                if not known:
                    self._pinned.add(axis)
        return axes

    def _last(self, value: Any) -> _Node | None:
        """Return the node of the last axis of `value`; None where it has one entry only, or none."""
        if isinstance(value, ir.Constant) or (value in self._axes and _extents(value)[-1:] in ((), (1,))):
            return None
        return self._axes[value][-1] if value in self._axes else self._value(value)

    # --- operators ----------------------------------------------------------------------------------------------------

    def _follow(self, result: relax.Var, value: Any) -> None:
        if isinstance(value, relax.Var):
            self._join(self._value(result), self._last(value))
            return
        if isinstance(value, relax.Call) and isinstance(value.op, ir.Op) and self._known(result, value):
            return
        self._pin(result)
        for argument in value.args if isinstance(value, relax.Call) else ():
            self._pin(argument)
        if isinstance(value, relax.Tuple):
            self._pin(value)

    def _known(self, result: relax.Var, call: relax.Call) -> bool:
        """Follow the channels through `call`; return False where they must stay as they are."""
        name = call.op.name.removeprefix("relax.")
        if name == "nn.conv2d":
            return self._convolution(result, call)
        if name == "matmul":
            return self._product(result, call)
        if name in _BINARY or (name == "divide" and isinstance(call.args[1], ir.Constant)):
            return self._binary(result, call)
        if name in _UNARY or self._keeps_the_last_axis(name, call):
            self._join(self._value(result), self._last(call.args[0]))
            return True
        return False

    def _keeps_the_last_axis(self, name: str, call: relax.Call) -> bool:
        attributes = call.attrs
        if name in _POOLS or name == "image.resize2d":
            return str(attributes.layout) == "NHWC"
        if name == "mean":
            rank = len(_extents(call.args[0]))
            return attributes.axis is not None and all(int(axis) % rank != rank - 1 for axis in attributes.axis)
        if name in ("reshape", "squeeze"):
            before, after = _extents(call.args[0]), _extents(call)
            return bool(before) and bool(after) and before[-1] == after[-1] > 1
        return False

    def _convolution(self, result: relax.Var, call: relax.Call) -> bool:
        data, weight = call.args
        if call.attrs.data_layout != "NHWC" or call.attrs.kernel_layout != "HWIO" or weight not in self._axes:
            return False
        *_, read, stored = self._axes[weight]
        groups, channels = int(call.attrs.groups), _extents(data)[-1]
        if groups == 1:
            self._join(self._last(data), read)
            self._join(self._value(result), stored)
            return True
        if groups == channels == _extents(weight)[-1]:  # depthwise, one output each
            self._join(self._last(data), self._value(result), stored)
            return True
        return False

    def _product(self, result: relax.Var, call: relax.Call) -> bool:
        data, weight = call.args
        if weight not in self._axes or len(_extents(weight)) != 2:
            return False
        read, stored = self._axes[weight]
        self._join(self._last(data), read)
        self._join(self._value(result), stored)
        return True

    def _binary(self, result: relax.Var, call: relax.Call) -> bool:
        width = _extents(result)[-1:]
        for argument in call.args:
            if isinstance(argument, ir.Constant):
                if max(_extents(argument), default=1) > 1:
                    return False
            elif _extents(argument)[-1:] == width:
                self._join(self._value(result), self._last(argument))
            elif _extents(argument)[-1:] not in ((), (1,)):
                return False
        return True


def _extents(value: Any) -> tuple[int, ...]:
    return tuple(int(extent) for extent in value.ty.shape.values)
