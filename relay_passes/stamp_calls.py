"""Let every kernel write down when it starts and ends, inside the running module.

``main`` gets one more input, an int64 buffer ``stamps``; each kernel appends four words to it: the seconds and
nanoseconds of both readings of the monotonic clock. What lies between the readings is the kernel alone, in the state
the caches are really in: no profiler, no callback, about 50 ns a call. ``stamps[0]`` counts the words written; the
calls come in the order of ``main``. A stamped kernel knows nothing of the module around it and can be compiled apart.
"""

from collections.abc import Collection, Mapping

import tvm
from tvm import ir, relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.s_tir.stmt import SBlock, SBlockRealize

__all__ = ["STAMP_WORDS", "StampCalls", "results_of", "stamped"]

STAMP_WORDS = 4
_CLOCK_MONOTONIC = 1


def results_of(module: ir.IRModule) -> dict[str, int]:
    """Return how many buffers each kernel writes: its last parameters, a tuple's parts one by one."""
    call_tir = ir.Op.get("relax.call_tir")
    values = [binding.value for block in module["main"].body.blocks for binding in block.bindings]
    calls = [value for value in values if isinstance(value, relax.Call) and value.op == call_tir]
    return {
        call.args[0].name_hint: len(made.fields) if isinstance(made := call.ty_args[0], ir.TupleType) else 1
        for call in calls
    }


def stamped(function: tirx.PrimFunc, words: int, *, results: int) -> tirx.PrimFunc:
    """Return `function` with a clock reading on both sides of its body.

    It gets a parameter `stamps` of `words` words before its `results` last ones, the buffers that it writes.
    """
    stamps = tirx.decl_buffer((words,), "int64", name="stamps")
    begin = stamps[0] + 1

    def read_clock(offset: int) -> tirx.Stmt:
        place = stamps.access_ptr("w", offset=begin + offset)
        clock = tirx.IntImm("int32", _CLOCK_MONOTONIC)
        return tirx.Evaluate(tirx.call_extern("int32", "clock_gettime", clock, place))

    root = function.body.block
    body = tirx.SeqStmt(
        [
            read_clock(0),
            root.body,
            read_clock(2),
            tirx.BufferStore(stamps, stamps[0] + STAMP_WORDS, [0]),
        ]
    )
    block = SBlock(
        root.iter_vars,
        root.reads,
        root.writes,
        root.name_hint,
        body,
        root.init,
        root.alloc_buffers,
        root.match_buffers,
        root.annotations,
    )
    params = [*function.params[:-results], stamps, *function.params[-results:]]
    return tirx.PrimFunc(params, SBlockRealize([], True, block), function.ret_type, attrs=function.attrs)


@mutator
class _Passer(PyExprMutator):  # type: ignore[misc]  # to mypy, what tvm has is Any
    """Hands the buffer to every stamped kernel."""

    def __init__(self, module: ir.IRModule, stamps: relax.Var, kernels: Mapping[str, tirx.PrimFunc]) -> None:
        super().__init__(module)
        self.stamps = stamps
        # New names: a global variable keeps the type of the function it was made for.
        self.stamped = {name: self.builder_.add_func(function, f"stamped_{name}") for name, function in kernels.items()}
        self.call_tir = ir.Op.get("relax.call_tir")

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = super().visit_call_(call)
        if call.op == self.call_tir and call.args[0].name_hint in self.stamped:
            arguments = relax.Tuple([*call.args[1].fields, self.stamps])
            kernel = self.stamped[call.args[0].name_hint]
            return relax.Call(call.op, [kernel, arguments, *call.args[2:]], call.attrs, call.ty_args)
        return call


@tvm.transform.module_pass(opt_level=0, name="StampCalls")
class StampCalls:
    """Stamp the kernels of these `names`, which get "stamped_" before them, for at most `words` words of stamps."""

    def __init__(self, names: Collection[str], words: int) -> None:
        self.names = tuple(names)
        self.words = words

    def transform_module(self, module: ir.IRModule, _context: tvm.transform.PassContext) -> ir.IRModule:
        """Return `module` with stamped kernels and ``stamps`` as the last of the inputs of ``main``."""
        results = results_of(module)
        kernels = {name: stamped(module[name], self.words, results=results[name]) for name in self.names}
        main = module["main"]
        count = int(main.attrs["num_input"])
        stamps = relax.Var("stamps", relax.TensorType([self.words], "int64"))
        passer = _Passer(module, stamps, kernels)
        body = passer.visit_expr(main.body)
        params = [*main.params[:count], stamps, *main.params[count:]]
        output = passer.builder_.get()
        function = relax.Function(params, body, main.ret_ty, main.is_pure, main.attrs)
        output["main"] = function.with_attr("num_input", count + 1)
        return relax.transform.DeadCodeElimination(["main"])(output)
