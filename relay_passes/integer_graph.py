"""A float graph with quantize and dequantize in it -> the same in integers, from one stored tensor to the next.

``quantize`` then ``dequantize`` say what a tensor is stored as. Convolutions and matrix products of stored tensors and
of weights that are to be integers become integer sums; biases, residual adds and activations stay in them, and a sum
becomes the next stored tensor in one step: its multiplier, the clipping, the rounding. What has no integer form reads
the float value of what it needs, computed where it is needed. All that is emitted are operators of the graph IR, which
later passes lay out, fuse and make kernels of.

A stored tensor is unsigned: x = scale * (integer - zero). It is rounded half up: integers are what is cut off of the
value + 0.5, which every processor does in one instruction.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import tvm
from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.integer_arrays import ArrayKind, IntegerArray, WeightFormat

__all__ = ["STORED", "IntegerGraph"]

STORED = "uint8"
_MOST = 255
_SUM = "int32"
_RESIDUAL: tuple[ArrayKind, ...] = ("residual", "residual_half", "residual_shift")
# Operators that pick or move values, so that they may as well do so on integers.
_MOVING = ("nn.max_pool2d", "reshape", "permute_dims", "flatten", "squeeze", "expand_dims")


@dataclass(frozen=True)
class _Stored:
    """A float value that is in memory as integers `var`, none larger than `most`."""

    var: relax.Var
    scale: float
    zero: int
    most: int


@dataclass(frozen=True)
class _Sum:
    """A float value max(low, min(high, var * source.scale * scales of `weight`)), channels along axis 1.

    `bare`: what the zero point of the source adds is still in it. `flat`: the value has no axes but the first two; the
    others of `var` have extent 1.
    """

    var: relax.Var
    weight: str
    source: _Stored
    flat: bool = False
    low: float = -math.inf
    high: float = math.inf
    bare: bool = True

    @property
    def clipped(self) -> bool:
        return (self.low, self.high) != (-math.inf, math.inf)


_Meaning = _Stored | _Sum


@mutator
class _Integers(PyExprMutator):  # type: ignore[misc]  # to mypy, what tvm has is Any
    def __init__(
        self,
        module: ir.IRModule,
        weights: dict[relax.Var, relax.Var],
        formats: Mapping[str, WeightFormat],
        biases: frozenset[relax.Var],
    ) -> None:
        super().__init__(module)
        self._weights = weights
        self._formats = formats
        self._biases = biases
        self._meanings: dict[relax.Var, _Meaning] = {}
        # Reshaped and transposed variables: (what of, the call that does it).
        self._views: dict[relax.Var, tuple[relax.Var, relax.Expr]] = {}
        self._floats: dict[relax.Var, relax.Expr] = {}
        self._made: dict[IntegerArray, relax.Var] = {}
        self.arrays: dict[str, IntegerArray] = {}
        self.params: list[relax.Var] = []
        self.most: dict[str, int] = {}

    # --- what a value means -------------------------------------------------------------------------------------------

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        meaning = self._meaning(binding.value)
        if meaning is not None:
            self._meanings[binding.var] = meaning
            if not isinstance(binding.var, relax.DataflowVar):
                self.set_var_remap(binding.var, self.builder_.emit_output(self._as_float(meaning)))
            return
        self._note_view(binding)
        super().visit_var_binding_(binding)

    def visit_var_(self, var: relax.Var) -> relax.Expr:
        return self._float(var) if var in self._meanings else super().visit_var_(var)

    def visit_dataflow_var_(self, var: relax.Var) -> relax.Expr:
        return self._float(var) if var in self._meanings else super().visit_dataflow_var_(var)

    def _note_view(self, binding: relax.VarBinding) -> None:
        """Remember reshaped biases and transposed matrices."""
        value = binding.value
        if isinstance(value, relax.Call) and isinstance(value.op, ir.Op) and len(value.args):
            source = value.args[0]
            if isinstance(source, relax.Var) and value.op.name in ("relax.reshape", "relax.permute_dims"):
                self._views[binding.var] = (source, value)

    def _meaning(self, value: Any) -> _Meaning | None:
        if isinstance(value, relax.Var):
            return self._meanings.get(value)
        if not isinstance(value, relax.Call) or not isinstance(value.op, ir.Op):
            return None
        name = value.op.name.removeprefix("relax.")
        if name == "quantize":
            return self._store(value)
        if name == "dequantize":
            return self._meanings.get(value.args[0])
        first = self._meanings.get(value.args[0]) if len(value.args) and isinstance(value.args[0], relax.Var) else None
        if name in ("nn.conv2d", "matmul") and isinstance(first, _Stored):
            return self._product(name, value, first)
        if name == "add":
            return self._add(value)
        if isinstance(first, _Sum) and name in ("nn.relu", "clip", "nn.relu6"):
            return self._activation(name, value, first)
        if isinstance(first, _Stored) and name in _MOVING:
            moved = relax.Call(value.op, [first.var, *value.args[1:]], value.attrs)
            return replace(first, var=self._emit(moved))
        return None

    def _of(self, kind: ArrayKind, weight: str, **fields: Any) -> IntegerArray:
        return IntegerArray(kind, weight, format=self._formats[weight], **fields)

    # --- integer arithmetic -------------------------------------------------------------------------------------------

    def _emit(self, value: relax.Expr) -> relax.Var:
        return self.builder_.emit(value)

    def _array(self, array: IntegerArray, extents: list[int]) -> relax.Var:
        """Return the parameter for an array of one entry a channel, as wide as `extents` asks for."""
        if array not in self._made:
            dtype = "float32" if array.kind == "multiplier" else _SUM
            name = f"{array.weight}_{array.kind}"
            while name in self.arrays:
                name += "_"
            var = relax.Var(name, relax.TensorType([max(extents)], dtype))
            self.arrays[name], self._made[array] = array, var
            self.params.append(var)
        return self._emit(relax.op.reshape(self._made[array], extents))

    def _wide(self, found: _Sum) -> list[int]:
        return [extent if axis == 1 else 1 for axis, extent in enumerate(_extents(found.var))]

    def _rows(self, found: _Sum) -> list[list[int]]:
        """Return the extents of what holds one number for each channel of a sum."""
        wide = self._wide(found)
        return [wide[1:2], wide[:2]] if found.flat else [wide]

    def _product(self, name: str, call: relax.Call, source: _Stored) -> _Sum | None:
        weight, view = self._views.get(call.args[1], (call.args[1], None))
        if weight not in self._weights or (name == "matmul" and not _is_linear(source, view)):
            return None
        integers = self._weights[weight]
        self.most[weight.name] = max(source.most, self.most.get(weight.name, 0))
        if integers.name not in self.arrays:
            self.arrays[integers.name] = self._of("weight", weight.name)
            self.params.append(integers)
        if name == "matmul":
            # A convolution of one pixel: there are instructions for it, and kernels.
            data = self._emit(relax.op.reshape(source.var, [*_extents(source.var), 1, 1]))
            kernel = self._emit(relax.op.reshape(integers, [*_extents(integers), 1, 1]))
            product = self._emit(relax.op.nn.conv2d(data, kernel, out_dtype=_SUM))
            return _Sum(product, weight.name, source, flat=True)
        attrs, data = call.attrs, source.var
        padding = [int(width) for width in attrs.padding]
        if source.zero and any(padding):
            top, left, bottom, right = padding
            widths = [0, 0, 0, 0, top, bottom, left, right]
            data = self._emit(relax.op.nn.pad(data, widths, pad_value=source.zero))
            padding = [0, 0, 0, 0]
        product = relax.op.nn.conv2d(
            data,
            integers,
            strides=list(attrs.strides),
            padding=padding,
            dilation=list(attrs.dilation),
            groups=int(attrs.groups),
            data_layout=attrs.data_layout,
            kernel_layout=attrs.kernel_layout,
            out_dtype=_SUM,
        )
        return _Sum(self._emit(product), weight.name, source)

    def _complete(self, found: _Sum, bias: str | None = None) -> _Sum:
        """Return the sum with a bias, and without what the zero point of its source has added."""
        if bias is None and not (found.bare and found.source.zero):
            return replace(found, bare=False)
        zero = found.source.zero if found.bare else 0
        array = self._of("bias", found.weight, bias=bias, source_scale=found.source.scale, source_zero=zero)
        added = self._emit(relax.op.add(found.var, self._array(array, self._wide(found))))
        return replace(found, var=added, bare=False)

    def _add(self, call: relax.Call) -> _Sum | None:
        for one, other in ((call.args[0], call.args[1]), (call.args[1], call.args[0])):
            found = self._meanings.get(one) if isinstance(one, relax.Var) else None
            if not isinstance(found, _Sum) or found.clipped or not isinstance(other, relax.Var):
                continue
            bias, _ = self._views.get(other, (other, None))
            if bias in self._biases and found.bare and _extents(other) in self._rows(found):
                return self._complete(found, bias.name)
            stored = self._meanings.get(other)
            if isinstance(stored, _Stored) and _extents(call) == _extents(stored.var):
                return self._residual(self._complete(found), stored)
        return None

    def _residual(self, found: _Sum, stored: _Stored) -> _Sum:
        scales = {"source_scale": found.source.scale, "result_scale": stored.scale}
        arrays = [self._array(self._of(kind, found.weight, **scales), self._wide(found)) for kind in _RESIDUAL]
        value = self._emit(relax.op.astype(stored.var, _SUM))
        if found.flat:
            value = self._emit(relax.op.reshape(value, _extents(found.var)))
        if stored.zero:
            value = self._emit(relax.op.subtract(value, _number(stored.zero, value)))
        for operator, array in zip((relax.op.multiply, relax.op.add, relax.op.right_shift), arrays, strict=True):
            value = self._emit(operator(value, array))
        return replace(found, var=self._emit(relax.op.add(found.var, value)))

    def _activation(self, name: str, call: relax.Call, found: _Sum) -> _Sum:
        low, high = 0.0, math.inf
        if name == "nn.relu6":
            high = 6.0
        elif name == "clip":
            low, high = (float(argument.value) for argument in call.args[1:3])
        return replace(self._complete(found), low=max(low, found.low), high=min(high, found.high))

    # --- from one kind of value to another ----------------------------------------------------------------------------

    def _store(self, call: relax.Call) -> _Stored:
        value, (scale, zero) = call.args[0], (argument.value.numpy().item() for argument in call.args[1:3])
        meaning = self._meanings.get(value)
        if isinstance(meaning, _Stored) and (meaning.scale, meaning.zero) == (scale, zero):
            return meaning
        low, high = float(-zero), float(_MOST - zero)
        if isinstance(meaning, _Sum):
            meaning = self._complete(meaning)
            scales = {"source_scale": meaning.source.scale, "result_scale": scale}
            array = self._of("multiplier", meaning.weight, **scales)
            scaled = self._emit(relax.op.astype(meaning.var, "float32"))
            scaled = self._emit(relax.op.multiply(scaled, self._array(array, self._wide(meaning))))
            low, high = max(low, meaning.low / scale), min(high, meaning.high / scale)
        else:
            value = self.visit_expr(value)
            scaled = self._emit(relax.op.multiply(value, _number(1 / scale, value)))
        clipped = self._emit(relax.op.clip(scaled, low, high))
        raised = self._emit(relax.op.add(clipped, _number(zero + 0.5, clipped)))
        integers = self._emit(relax.op.astype(raised, STORED))
        flat = isinstance(meaning, _Sum) and meaning.flat
        return _Stored(self._flattened(integers) if flat else integers, scale, zero, math.floor(high + zero + 0.5))

    def _flattened(self, value: relax.Var) -> relax.Var:
        return self._emit(relax.op.reshape(value, _extents(value)[:2]))

    def _float(self, var: relax.Var) -> relax.Expr:
        """Return the float value of what is kept in integers, computed once."""
        if var not in self._floats:
            self._floats[var] = self._as_float(self._meanings[var])
        return self._floats[var]

    def _as_float(self, meaning: _Meaning) -> relax.Var:
        if isinstance(meaning, _Stored):
            value = self._emit(relax.op.astype(meaning.var, "float32"))
            if meaning.zero:
                value = self._emit(relax.op.subtract(value, _number(meaning.zero, value)))
            return self._emit(relax.op.multiply(value, _number(meaning.scale, value)))
        found = self._complete(meaning)
        array = self._of("multiplier", found.weight, source_scale=found.source.scale)
        value = self._emit(relax.op.astype(found.var, "float32"))
        value = self._emit(relax.op.multiply(value, self._array(array, self._wide(found))))
        if (found.low, found.high) == (0.0, math.inf):
            value = self._emit(relax.op.nn.relu(value))
        elif found.clipped:
            value = self._emit(relax.op.clip(value, found.low, found.high))
        return self._flattened(value) if found.flat else value


def _is_linear(source: _Stored, view: Any) -> bool:
    """Whether a product is that of rows with a transposed weight, as linear layers are."""
    return len(_extents(source.var)) == 2 and view is not None and view.op.name == "relax.permute_dims"


def _extents(value: Any) -> list[int]:
    return [int(extent) for extent in value.ty.shape.values]


def _number(number: float, like: Any) -> relax.Expr:
    """Return a constant of the type of `like`; being a scalar it becomes a part of the kernels that use it."""
    return relax.const(number, str(like.ty.dtype))


@tvm.transform.module_pass(opt_level=0, name="IntegerGraph")
class IntegerGraph:
    """Compute with integers what reads stored tensors and the weights named in `formats`.

    To be applied to an imported graph, whose weights are the parameters after the inputs. `arrays` then says how the
    new parameters follow from the float ones, by name; a parameter that is not there is a float one of that name.
    `most` is the largest integer that each weight is multiplied by.
    """

    def __init__(self, formats: Mapping[str, WeightFormat]) -> None:
        self.formats = dict(formats)
        self.arrays: dict[str, IntegerArray] = {}
        self.most: dict[str, int] = {}

    def transform_module(self, module: ir.IRModule, _context: tvm.transform.PassContext) -> ir.IRModule:
        """Return `module` in integers."""
        main = module["main"]
        count = int(main.attrs["num_input"])
        given = list(main.params[count:])
        integers = {
            var: relax.Var(var.name, relax.TensorType(_extents(var), "int8"))
            for var in given
            if var.name in self.formats
        }
        biases = frozenset(var for var in given if len(var.ty.shape.values) == 1)
        visitor = _Integers(module, integers, self.formats, biases)
        body = visitor.visit_expr(main.body)
        self.arrays, self.most = visitor.arrays, visitor.most
        inputs = list(main.params[:count])
        everything = relax.Function([*main.params, *visitor.params], body, main.ret_ty, main.is_pure, main.attrs)
        # Reshaped biases and transposed weights of which only the integer ones are read now.
        body = relax.analysis.remove_all_unused(everything).body
        read = set(relax.analysis.free_vars(body))
        params = [*inputs, *(var for var in (*given, *visitor.params) if var in read)]
        output = module.clone()
        output["main"] = relax.Function(params, body, main.ret_ty, main.is_pure, main.attrs)
        return output
