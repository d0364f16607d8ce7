"""What a build worker does: compile the programs of a task, one kernel, the code around the kernels of a whole module.

Every program becomes an object file; those of a task are linked to ONE library to be timed, and the fastest one's is
linked into modules as it is.
"""

import json
import os
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.s_tir.meta_schedule.database import TuningRecord, Workload
from tvm.support.cc import create_shared

from relay_passes.external_kernels import ExternalKernels
from relay_passes.overlap_tails import OverlapTails
from relay_passes.pipeline import executable_passes
from tvm_prune.codec import decode
from tvm_prune.oracle.spaces import enumerate_candidates
from tvm_prune.oracle.symbol import program_symbol
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.worker import Emit

__all__ = ["FUNCTIONS"]


def build_task(arguments: Any, emit: Emit) -> Any:
    """Compile the candidates of one kernel, each to an object file of its own, and link them to one library.

    Arguments: ``module`` (JSON of an IRModule whose ``main`` is the kernel), ``key`` (of the kernel), ``target``,
    ``limit``, ``library`` (path to write), ``objects`` (folder to write to), ``only`` (indices, or null for all),
    ``tried`` (symbols of candidates to leave out). Answer: a list of {index, symbol, record}.
    """
    module = tvm.ir.load_json(arguments["module"])
    target = decode(Target, arguments["target"])
    workload = Workload(module)
    files, answer = [], []
    for index, candidate in enumerate(enumerate_candidates(module["main"], target, limit=arguments["limit"])):
        if arguments["only"] is not None and index not in arguments["only"]:
            continue
        record = TuningRecord(candidate.schedule.trace, workload, None, target.to_tvm(), None)
        record_json = json.loads(json.dumps(record.as_json()))
        symbol = program_symbol(arguments["key"], record_json[0])
        if symbol in arguments["tried"]:
            continue
        files.append(os.path.join(arguments["objects"], f"{symbol}.o"))
        if not os.path.exists(files[-1]):
            function = candidate.schedule.mod["main"].with_attr("global_symbol", symbol)
            _compile(tvm.IRModule({symbol: function}), target, files[-1])
        answer.append({"index": index, "symbol": symbol, "record": record_json})
    create_shared(arguments["library"], files)
    return answer


def count_candidates(arguments: Any, emit: Emit) -> Any:
    """Return how many candidates a kernel has (arguments as for `build_task`)."""
    module = tvm.ir.load_json(arguments["module"])
    return len(enumerate_candidates(module["main"], decode(Target, arguments["target"]), limit=arguments["limit"]))


def build_kernel(arguments: Any, emit: Emit) -> None:
    """Compile one scheduled kernel to an object file.

    Arguments: ``module`` (JSON of an IRModule that holds nothing but the kernel), ``target``, ``object`` (path to
    write).
    """
    _compile(tvm.ir.load_json(arguments["module"]), decode(Target, arguments["target"]), arguments["object"])


def _compile(module: tvm.IRModule, target: Target, path: str) -> None:
    # Only graphs of ours and the tuner call a kernel, with tensors made for it; TVM's checks of the arguments would be
    # a fifth of the compile time.
    # LLVM finds common subexpressions too.
    with tvm.transform.PassContext(config={"tirx.disable_assert": True, "tirx.disable_cse_tir": True}):
        module = OverlapTails(target.lanes)(module)  # type: ignore[operator]  # the decorator makes it a pass
        compiled = tvm.compile(module, target=target.to_tvm())
    # Whole or not at all: a file that is there is linked without another look.
    unfinished = f"{path}.{os.getpid()}.o"
    compiled.mod.write_to_file(unfinished)
    os.replace(unfinished, path)


def build_module(arguments: Any, emit: Emit) -> None:
    """Compile the code around the kernels of a whole module and link both.

    Arguments: ``module`` (its JSON; in ``main`` the weights are the parameters after the inputs), ``symbols`` (of the
    kernels by name), ``objects`` (paths of their object files), ``target``, ``weights`` (path of an .npz with their
    values in order), ``library`` (path to write).
    """
    module = tvm.ir.load_json(arguments["module"])
    target = decode(Target, arguments["target"]).to_tvm()
    main = module["main"]
    with np.load(arguments["weights"]) as stored:
        values = [tvm.runtime.tensor(stored[name]) for name in stored.files]
    bound = dict(zip(main.params[int(main.attrs["num_input"]) :], values, strict=True))
    module = relax.transform.BindParams("main", bound)(module)
    with target, tvm.transform.PassContext(opt_level=3):
        module = executable_passes()(module)
        module = ExternalKernels(arguments["symbols"])(module)  # type: ignore[operator]  # the decorator makes it a pass
        executable = relax.build(module, target=target, relax_pipeline=None)
    executable.export_library(arguments["library"], addons=list(arguments["objects"]))


FUNCTIONS = {
    "build_kernel": build_kernel,
    "build_module": build_module,
    "build_task": build_task,
    "count_candidates": count_candidates,
}
