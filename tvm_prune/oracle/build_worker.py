"""What a build worker does: compile the programs of a task, one kernel, the code around the kernels of a whole module.

Every program becomes an object file; those to be timed in turns are linked to ONE library, and the fastest one's is
linked into modules as it is.
"""

import json
import logging
import os
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.s_tir import ScheduleError
from tvm.s_tir.meta_schedule.database import TuningRecord, Workload
from tvm.support.cc import create_shared

from relay_passes.overlap_tails import OverlapTails
from relay_passes.pipeline import executable_passes
from relay_passes.vector_math import register_vector_math
from tvm_prune.codec import decode
from tvm_prune.oracle.spaces import dot_product, points
from tvm_prune.oracle.symbol import program_symbol
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.worker_process import Emit

__all__ = ["FUNCTIONS"]

_log = logging.getLogger(__name__)

register_vector_math()
dot_product.register()


def build_task(arguments: Any, emit: Emit) -> Any:
    """Compile programs of one kernel, each to an object file of its own.

    Arguments: ``module`` (JSON of an IRModule whose ``main`` is the kernel), ``key`` (of the kernel), ``target``,
    ``names`` (of programs of its space; the first ``count`` that can be scheduled are compiled), ``objects`` (folder to
    write SYMBOL.o to). Answer: ``built``, a list of {symbol, record, parallel}, and ``refused``, the names of those
    that cannot be scheduled.
    """
    module = tvm.ir.load_json(arguments["module"])
    target = decode(Target, arguments["target"])
    workload = Workload(module)
    space = {point.program.name: point for point in points(module["main"], target)}
    built: list[Any] = []
    refused: list[str] = []
    for name in arguments["names"]:
        if len(built) == arguments["count"]:
            break
        try:
            candidate = space[name].candidate()
        except ScheduleError as error:
            _log.debug("%s cannot be scheduled: %s", name, error)
            refused.append(name)
            continue
        record = TuningRecord(candidate.schedule.trace, workload, None, target.to_tvm(), None)
        record_json = json.loads(json.dumps(record.as_json()))
        symbol = program_symbol(arguments["key"], record_json[0])
        path = os.path.join(arguments["objects"], f"{symbol}.o")
        if not os.path.exists(path):
            function = candidate.schedule.mod["main"].with_attr("global_symbol", symbol)
            _compile(tvm.IRModule({symbol: function}), target, path)
        built.append({"symbol": symbol, "record": record_json, "parallel": candidate.program.parallel > 1})
    return {"built": built, "refused": refused}


def link(arguments: Any, emit: Emit) -> None:
    """Link object files (``objects``, paths) to ``library``."""
    create_shared(arguments["library"], arguments["objects"])


def build_reference(arguments: Any, emit: Emit) -> None:
    """Compile one kernel as it is, unscheduled, to a library that has it as ``reference``.

    Arguments: ``module`` (JSON of an IRModule whose ``main`` is the kernel), ``target``, ``library`` (path to write).
    """
    function = tvm.ir.load_json(arguments["module"])["main"].with_attr("global_symbol", "reference")
    target = decode(Target, arguments["target"]).to_tvm()
    tvm.compile(tvm.IRModule({"reference": function}), target=target).export_library(arguments["library"])


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
        module = executable_passes(arguments["symbols"])(module)
        executable = relax.build(module, target=target, relax_pipeline=None)
    executable.export_library(arguments["library"], addons=list(arguments["objects"]))


FUNCTIONS = {
    "build_kernel": build_kernel,
    "build_module": build_module,
    "build_reference": build_reference,
    "build_task": build_task,
    "link": link,
}
