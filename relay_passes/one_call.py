"""The whole network as one function, so that no machine interprets it: kernel after kernel is called by machine code.

Between two kernels of a network Relax's virtual machine spends half a microsecond: it makes a tensor, collects the
arguments, looks the function up. What comes out here knows all that beforehand: intermediate tensors are places in one
block of memory, and a call is a call. What is left to the virtual machine are the inputs' checks, the outputs and the
one call between them.

To run once memory is planned, before the virtual machine's own code is made. A main that does anything besides calling
kernels on tensors of known shapes stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import ir, relax, tirx

__all__ = ["OneCall"]

_NAME = "network"
_CPU = 1
# What separates two tensors of the block, and what kernels assume of every tensor's address.
_ALIGNMENT = 64
# The field of a DLTensor that is its address (tvm::tirx::builtin::kDLTensorData).
_ADDRESS = 1


@dataclass(frozen=True)
class _InBlock:
    """A tensor that lies so many bytes behind the start of the block."""

    offset: int


# Places that main has by itself.
_GIVEN = (relax.Var, ir.GenericConst)


def _flat(place: Any) -> list[Any]:
    """Return the places in a tuple, and in tuples in it."""
    return [part for item in place for part in _flat(item)] if isinstance(place, list) else [place]


@dataclass
class _Calls:
    """What main does: calls of kernels in order, on places.

    A place is an expression of the graph (an input, a weight, an output) or `_InBlock`; variables bound to tuples have
    lists of places.
    """

    calls: list[tuple[ir.GlobalVar, list[Any]]] = field(default_factory=list)
    outputs: list[relax.VarBinding] = field(default_factory=list)
    storages: dict[relax.Var, int] = field(default_factory=dict)
    places: dict[relax.Var, Any] = field(default_factory=dict)
    block_bytes: int = 0

    def read(self, function: relax.Function) -> bool:
        """Read main; return whether it is nothing but such calls."""
        for block in function.body.blocks:
            for binding in block.bindings:
                if not isinstance(binding, relax.VarBinding) or not self._bind(binding):
                    return False
        return all(isinstance(place, _GIVEN) for place in _flat(self.place(function.body.body)))

    def place(self, value: Any) -> Any:
        """Return where a value is, None where this is not known."""
        if isinstance(value, relax.Tuple):
            return [self.place(part) for part in value.fields]
        if isinstance(value, relax.TupleGetItem):
            whole = self.place(value.tuple_value)
            return whole[value.index] if isinstance(whole, list) else None
        if isinstance(value, relax.Var):
            return self.places.get(value, value)
        return value if isinstance(value, ir.GenericConst) else None

    def _bind(self, binding: relax.VarBinding) -> bool:
        var, value = binding.var, binding.value
        if not isinstance(value, relax.Call):
            self.places[var] = self.place(value)
            return self.places[var] is not None
        if isinstance(value.op, ir.GlobalVar):
            arguments = [place for argument in value.args for place in _flat(self.place(argument))]
            self.calls.append((value.op, arguments))
            return all(isinstance(place, (_InBlock, *_GIVEN)) for place in arguments)
        name = value.op.name if isinstance(value.op, ir.Op) else ""
        if name == "relax.memory.alloc_storage":
            (size,) = value.args[0].values
            if not isinstance(size, tirx.IntImm):
                return False
            self.storages[var] = self.block_bytes
            self.block_bytes += -(-int(size) // _ALIGNMENT) * _ALIGNMENT
        elif name == "relax.memory.alloc_tensor":
            self.places[var] = _InBlock(self.storages[value.args[0]] + int(value.args[1].value))
        elif name == "relax.builtin.alloc_tensor":
            self.outputs.append(binding)
        elif name == "relax.reshape":
            self.places[var] = self.place(value.args[0])
            # Of what the caller gets, it would have to be a tensor of its own.
            return isinstance(self.places[var], _InBlock)
        else:
            return False
        return True


def _array(address: Any, shape: list[int], dtype: str) -> Any:
    extents = tirx.call_intrin("handle", "tirx.tvm_stack_make_shape", *(tirx.IntImm("int64", n) for n in shape))
    none = tirx.IntImm("int32", 0)
    return tirx.tvm_stack_make_array(address, extents, none, tirx.IntImm("int32", len(shape)), dtype, none)


def _on_cpu(body: Any) -> Any:
    for key, value in (("device_type", _CPU), ("device_id", 0)):
        body = tirx.AttrStmt("default", key, tirx.IntImm("int32", value), body)
    return body


def _caller(symbol: str, kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return a function of addresses that calls a kernel of packed arguments; each symbol may be called in one place.

    It returns 0, or what a kernel returns that failed.
    """
    types = [([int(extent) for extent in buffer.shape], str(buffer.dtype)) for buffer in kernel.params]
    addresses = [tirx.Var(f"a{place}", "handle") for place in range(len(types))]
    arrays = [_array(address, *kind) for address, kind in zip(addresses, types, strict=True)]
    call = tirx.Evaluate(tirx.call_cpacked(f"__tvm_ffi_{symbol}", *arrays))
    body = tirx.SeqStmt([_on_cpu(call), tirx.Return(tirx.IntImm("int32", 0))])
    return tirx.PrimFunc(addresses, body, ret_type=ir.PrimType("int32"), attrs=_attrs())


def _attrs(**more: Any) -> Any:
    return ir.make_node("ir.DictAttrs", **{"tirx.is_host_func": True, **more})


@tvm.transform.module_pass(opt_level=0, name="OneCall")
class OneCall:
    """Call the kernels in `symbols` (kernel name -> symbol of its object) from one function, where main allows it."""

    def __init__(self, symbols: Mapping[str, str]) -> None:
        self.symbols = dict(symbols)

    def transform_module(self, module: ir.IRModule, _context: tvm.transform.PassContext) -> ir.IRModule:
        """Return the module with that function in place of the kernels, or as it is."""
        main = module["main"]
        found = _Calls()
        if not found.read(main) or any(kernel.name_hint not in self.symbols for kernel, _ in found.calls):
            return module
        return _rebuilt(module, main, found, self.symbols)


def _rebuilt(module: ir.IRModule, main: Any, found: _Calls, symbols: Mapping[str, str]) -> ir.IRModule:
    by_symbol = {symbols[kernel.name_hint]: kernel for kernel, _ in found.calls}
    caller = {symbol: ir.GlobalVar(f"call_{symbol}") for symbol in by_symbol}
    callers = {kernel: caller[symbols[kernel.name_hint]] for kernel, _ in found.calls}
    tensors: dict[Any, tirx.Var] = {}
    for _, places in found.calls:
        for place in places:
            if not isinstance(place, _InBlock) and place not in tensors:
                tensors[place] = tirx.Var(f"t{len(tensors)}", "handle")
    functions = {caller[symbol]: _caller(symbol, module[kernel]) for symbol, kernel in by_symbol.items()}
    builder = relax.BlockBuilder(ir.IRModule(functions))
    network = builder.add_func(_sequence(found, callers, tensors), _NAME)
    output = builder.get()
    output["main"] = _calling(main, found, network, list(tensors))
    return output.with_attrs(module.attrs) if module.attrs else output


def _sequence(
    found: _Calls, callers: Mapping[ir.GlobalVar, ir.GlobalVar], tensors: Mapping[Any, tirx.Var]
) -> tirx.PrimFunc:
    """Return the function that takes the tensors and calls kernel after kernel."""
    statements: list[Any] = []
    addresses = {}
    for place, tensor in tensors.items():
        addresses[place] = tirx.Var(f"{tensor.name}_address", "handle")
        statements.append(tirx.Bind(addresses[place], tirx.tvm_struct_get(tensor, 0, _ADDRESS, "handle")))
    block = tirx.Var("block", "handle")
    size = tirx.IntImm("uint64", found.block_bytes)
    if found.block_bytes:
        statements.append(tirx.Bind(block, tirx.TVMBackendAllocWorkspace(_CPU, 0, size, 0, 8)))

    def address(place: Any) -> Any:
        if isinstance(place, _InBlock):
            return tirx.handle_add_byte_offset(block, tirx.IntImm("int64", place.offset))
        return addresses[place]

    free = tirx.Evaluate(tirx.call_extern("int32", "TVMBackendFreeWorkspace", _CPU, 0, block))
    zero = tirx.IntImm("int32", 0)
    for number, (kernel, places) in enumerate(found.calls):
        call = ir.Call(callers[kernel], [address(place) for place in places], ret_ty=ir.PrimType("int32"))
        status = tirx.Var(f"status{number}", "int32")
        statements.append(tirx.Bind(status, call))
        if found.block_bytes:  # the program may go on after an error
            statements.append(tirx.IfThenElse(status != zero, free, None))
        message = [ir.StringImm(f"the kernel {kernel.name_hint} failed")]
        statements.append(tirx.AssertStmt(status == zero, ir.StringImm("RuntimeError"), message))
    if found.block_bytes:
        statements.append(free)
    return tirx.PrimFunc(list(tensors.values()), tirx.SeqStmt(statements), attrs=_attrs(global_symbol=_NAME))


def _calling(main: Any, found: _Calls, network: ir.GlobalVar, tensors: list[Any]) -> relax.Function:
    """Return main with its outputs' tensors made, that one call, and what it returns."""
    call = relax.Call(network, tensors, ty_args=[])
    done = relax.VarBinding(relax.Var("done", ir.TupleType([])), call)
    result = _as_value(found.place(main.body.body))
    body = relax.SeqExpr([relax.BindingBlock([*found.outputs, done])], result)
    return relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs)


def _as_value(place: Any) -> Any:
    return relax.Tuple([_as_value(part) for part in place]) if isinstance(place, list) else place
