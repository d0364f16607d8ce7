"""What a kernel costs that computes nothing: the floor under every task, on one thread and on all.

    python -m benchmarks.launch --json FILE

Chains of a kernel that adds 1 to two vectors; a kernel is the difference of two lengths, a call of the whole module
what is left at length 0. Kernels are called by one function, as those of a network are (relay_passes/one_call.py), or
by Relax's virtual machine. Two vectors are two items of work for the parallel form, which runs on the threads that
libraries are linked with (oracle/launcher.cc) or on TVM's thread pool.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.document import Document, markdown_table
from tvm_prune.lock import machine_lock
from tvm_prune.oracle.launcher import compile_launcher
from tvm_prune.oracle.target import Target

_SHORT, _LONG = 8, 72
_LANES = 16
COLUMNS = {
    "kernel": "",
    "caller": "",
    "pool": "",
    "threads": "",
    "launch_us": ".3f",
    "launch_us_p10": ".3f",
    "launch_us_p90": ".3f",
    "call_us": ".2f",
}


@dataclass(frozen=True)
class _Kind:
    """Who calls the kernels of a chain, and whose threads their loops run on ("" = none, they are serial)."""

    caller: str
    pool: str


# What networks do comes first.
_KINDS = (
    _Kind("one function", ""),
    _Kind("virtual machine", ""),
    _Kind("one function", "ours"),
    _Kind("virtual machine", "ours"),
    _Kind("virtual machine", "TVM's"),
)


def _chain(target: Target, folder: Path, kind: _Kind, *, length: int) -> Callable[[Any], Any]:
    """Return a module, compiled in `folder`, that calls a kernel `length` times in a row."""
    import tvm
    from tvm import relax, te
    from tvm.s_tir import Schedule

    from relay_passes.pipeline import executable_passes

    shape = (2, _LANES)
    data = te.placeholder(shape, "float32")
    result = te.compute(shape, lambda i, j: data[i, j] + 1.0, name="added")
    schedule = Schedule(te.create_prim_func([data, result], index_dtype_override="int64"))
    rows, columns = schedule.get_loops(schedule.get_sblock("added"))
    schedule.vectorize(columns)
    if kind.pool:
        schedule.parallel(rows)
    builder = relax.BlockBuilder()
    value = relax.Var("value", relax.TensorType(list(shape), "float32"))
    with builder.function("main", [value]):
        with builder.dataflow():
            kernel = builder.add_func(schedule.mod["main"].without_attr("global_symbol"), "added")
            for _ in range(length):
                value = builder.emit(relax.call_tir(kernel, [value], relax.TensorType(list(shape), "float32")))
            output = builder.emit_output(value)
        builder.emit_func_output(output)
    addons = []
    if kind.pool == "ours":
        addons.append(str(folder / "launcher.o"))
        compile_launcher(target, Path(addons[-1]))
    if kind.caller == "one function":
        alone = tvm.IRModule({"elsewhere": schedule.mod["main"].with_attr("global_symbol", "elsewhere")})
        addons.append(str(folder / "kernel.o"))
        with tvm.transform.PassContext(config={"tirx.disable_assert": True}):
            tvm.compile(alone, target=target.to_tvm()).mod.write_to_file(addons[-1])
    symbols = {"added": "elsewhere"} if kind.caller == "one function" else None
    with target.to_tvm(), tvm.transform.PassContext(opt_level=3):
        built = relax.build(executable_passes(symbols)(builder.get()), target=target.to_tvm(), relax_pipeline=None)
    library = folder / "chain.so"
    built.export_library(str(library), addons=addons or None)
    main: Callable[[Any], Any] = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())["main"]
    return main


def _block_s(run: Callable[[Any], Any], value: Any, calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        run(value)
    return (time.perf_counter() - begin) / calls


def _row(target: Target, folder: Path, kind: _Kind, *, blocks: int, calls: int) -> dict[str, Any]:
    import tvm

    value = tvm.runtime.tensor(np.zeros((2, _LANES), "float32"))
    chains = []
    for length in (_SHORT, _LONG):
        own = folder / f"{_KINDS.index(kind)}_{length}"
        own.mkdir()
        chains.append(_chain(target, own, kind, length=length))
    short, long = chains
    launches, whole = [], []
    for number in range(blocks + 1):
        short_s, long_s = _block_s(short, value, calls), _block_s(long, value, calls)
        if number:  # the first block warms up
            launches.append((long_s - short_s) / (_LONG - _SHORT) * 1e6)
            whole.append(short_s * 1e6 - _SHORT * launches[-1])
        time.sleep(0.02)
    low, *_, high = statistics.quantiles(launches, n=10)
    return {
        "kernel": "parallel" if kind.pool else "serial",
        "caller": kind.caller,
        "pool": kind.pool,
        "threads": target.threads if kind.pool else 1,
        "launch_us": statistics.median(launches),
        "launch_us_p10": low,
        "launch_us_p90": high,
        "call_us": statistics.median(whole),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=60)
    parser.add_argument("--calls", type=int, default=200, help="calls of each chain in a block")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = str(arguments.threads)  # before the first launch
    target = Target.local(threads=arguments.threads)
    kinds = [kind for kind in _KINDS if arguments.threads > 1 or not kind.pool]
    with machine_lock("measuring"), tempfile.TemporaryDirectory() as folder:
        rows = [_row(target, Path(folder), kind, blocks=arguments.blocks, calls=arguments.calls) for kind in kinds]
    if arguments.json is not None:
        Document.of(rows).write(arguments.json)
    print(markdown_table(rows, COLUMNS))


if __name__ == "__main__":
    main()
