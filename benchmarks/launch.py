"""What a kernel costs that computes nothing: the floor under every task, on one thread and on all.

    python -m benchmarks.launch --json FILE

Chains of a kernel that adds 1 to two vectors, compiled as a network's are; a kernel is the difference of two lengths,
a call of the whole module what is left at length 0. Two vectors are two items of work for the parallel form, which runs
on the threads that libraries are linked with (oracle/launcher.cc) and on TVM's thread pool.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
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
    "pool": "",
    "threads": "",
    "launch_us": ".3f",
    "launch_us_p10": ".3f",
    "launch_us_p90": ".3f",
    "call_us": ".2f",
}


def _chain(target: Target, library: Path, *, length: int, parallel: bool, own: bool) -> Callable[[Any], Any]:
    """Return a module, compiled to `library`, that calls a kernel `length` times in a row.

    Its loops are on threads of its `own`, or on TVM's.
    """
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
    if parallel:
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
    with target.to_tvm(), tvm.transform.PassContext(opt_level=3):
        built = relax.build(executable_passes()(builder.get()), target=target.to_tvm(), relax_pipeline=None)
    launcher = library.with_suffix(".o")
    compile_launcher(target, launcher)
    built.export_library(str(library), addons=[str(launcher)] if own else None)
    main: Callable[[Any], Any] = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())["main"]
    return main


def _block_s(run: Callable[[Any], Any], value: Any, calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        run(value)
    return (time.perf_counter() - begin) / calls


def _row(target: Target, folder: Path, *, parallel: bool, own: bool, blocks: int, calls: int) -> dict[str, Any]:
    import tvm

    value = tvm.runtime.tensor(np.zeros((2, _LANES), "float32"))
    short, long = (
        _chain(target, folder / f"{length}_{parallel}_{own}.so", length=length, parallel=parallel, own=own)
        for length in (_SHORT, _LONG)
    )
    launches, whole = [], []
    for number in range(blocks + 1):
        short_s, long_s = _block_s(short, value, calls), _block_s(long, value, calls)
        if number:  # the first block warms up
            launches.append((long_s - short_s) / (_LONG - _SHORT) * 1e6)
            whole.append(short_s * 1e6 - _SHORT * launches[-1])
        time.sleep(0.02)
    low, *_, high = statistics.quantiles(launches, n=10)
    return {
        "kernel": "parallel" if parallel else "serial",
        "pool": ("ours" if own else "TVM's") if parallel else "",
        "threads": target.threads if parallel else 1,
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
    kinds = ((False, True), (True, True), (True, False)) if arguments.threads > 1 else ((False, True),)
    with machine_lock("measuring"), tempfile.TemporaryDirectory() as folder:
        rows = [
            _row(target, Path(folder), parallel=parallel, own=own, blocks=arguments.blocks, calls=arguments.calls)
            for parallel, own in kinds
        ]
    if arguments.json is not None:
        Document.of(rows).write(arguments.json)
    print(markdown_table(rows, COLUMNS))


if __name__ == "__main__":
    main()
