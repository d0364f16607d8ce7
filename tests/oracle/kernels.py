"""Single kernels as the tuner meets them, and what scheduled forms of them compute."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tvm
from tvm import ir
from tvm.s_tir.meta_schedule.database import TuningRecord, Workload

from relay_passes.pipeline import fuse
from relay_passes.weight_form import PLAIN, WeightForm
from tests.relay_passes.graphs import kernels_of
from tvm_prune.oracle.spaces.candidate import Candidate
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel, kernel

__all__ = ["TARGET", "outputs", "record_of", "the_kernel"]

# Any x86 machine makes the same programs for it, so that golden texts hold everywhere.
TARGET = Target(threads=2, vector_bits=128)


def the_kernel(module: ir.IRModule, target: Target = TARGET, *, form: WeightForm = PLAIN) -> Kernel:
    """Return the only kernel of a graph once it is fused, its weight in `form`."""
    (function,) = kernels_of(fuse(module, target.to_tvm(), {} if form == PLAIN else {"weight": form})).values()
    return kernel(function)


def record_of(found: Kernel, candidate: Candidate, target: Target = TARGET) -> Any:
    """Return the candidate's record in the database's JSON form, without seconds."""
    workload = Workload(tvm.IRModule({"main": found.function}))
    record = TuningRecord(candidate.schedule.trace, workload, None, target.to_tvm(), None)
    return json.loads(json.dumps(record.as_json()))


def outputs(functions: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Compile PrimFuncs of one signature to one library; return what each makes of the same random buffers.

    LLVM's optimisations are off: they are most of a build and no part of the question.
    """
    module = tvm.IRModule({name: body.with_attr("global_symbol", name) for name, body in functions.items()})
    target = tvm.target.Target({"kind": "llvm", "opt-level": 0, "num-cores": 2})
    library = tvm.compile(module, target=target)
    generator = np.random.default_rng(0)
    *sources, result = [[int(extent) for extent in param.shape] for param in next(iter(functions.values())).params]
    given = [tvm.runtime.tensor(generator.standard_normal(shape).astype("float32")) for shape in sources]
    made = {}
    for name in functions:
        # What is not written stays no number and equals nothing.
        buffer = tvm.runtime.tensor(np.full(result, np.nan, "float32"))
        library[name](*given, buffer)
        made[name] = buffer.numpy()
    return made
