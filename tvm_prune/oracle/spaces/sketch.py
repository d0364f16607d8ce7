"""Program space of whatever reduces and has no space of its own: schedules that MetaSchedule's sketch rules make up.

Shao et al. 2022, "Tensor Program Optimization with Probabilistic Programs", sections 4 and 5.1. Each seed is one draw:
of the sketches for a kernel one, its tile sizes and the rest drawn at random. A compact space knows what pays; this one
has nothing but the number of its draws, so it comes after the plain loops and stands for no kernel that has a space.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from tvm_prune.oracle.program import Axis, Program
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.spaces.candidate import Point
from tvm_prune.oracle.target import Target

__all__ = ["KINDS", "NAME", "VERSION", "points"]

NAME = "sketch"
VERSION = 2
KINDS = ("other",)

_SEEDS = 24
# Rules may recompute a stage wherever it is read, a softmax's maximum for every element: no such draw is worth a trial.
_MOST_OPERATIONS = 2


def points(function: Any, anatomy: Anatomy, target: Target) -> Iterator[Point]:
    """Yield a draw for each seed if `function` reduces anything."""
    if not _reduces(function):
        return
    extents = [int(extent) for extent in function.params[-1].shape]
    for seed in range(1, _SEEDS + 1):
        yield Point(_program(extents, target, seed), partial(_schedule, function, target, seed))


def _reduces(function: Any) -> bool:
    from tvm.s_tir import Schedule

    schedule = Schedule(function)
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    return any(int(item.iter_type) == 2 for block in blocks for item in schedule.get(block).iter_vars)


def _program(extents: list[int], target: Target, seed: int) -> Program:
    # What a draw splits and whether it takes all threads is known once it is scheduled; this is what is likely.
    width = extents[-1] if extents else 1
    return Program(
        space=NAME,
        space_version=VERSION,
        variant=f"seed {seed}",
        axes={"out_c": Axis(extent=width, padded_extent=width, factors=(width,))},
        lanes=min(target.lanes, width),
        parallel=min(target.threads, math.prod(extents)),
        latency_s=0.0,
    )


def _schedule(function: Any, target: Target, seed: int) -> Any:
    import tvm
    from tvm.s_tir import ScheduleError
    from tvm.s_tir.analysis import estimate_tir_flops
    from tvm.s_tir.meta_schedule.postproc import Postproc
    from tvm.s_tir.meta_schedule.schedule_rule import ScheduleRule
    from tvm.s_tir.meta_schedule.space_generator import PostOrderApply

    # The rules of a plain CPU: those of newer ones name intrinsics that take TVM a minute and a half to load, which is
    # also why the context is made by the function behind its Python class.
    rules, postprocs = ScheduleRule.create("llvm"), Postproc.create("llvm")
    generator = PostOrderApply(sch_rules=rules, postprocs=postprocs, mutator_probs={})
    module = tvm.IRModule({"main": function})
    make = tvm.get_global_func("s_tir.meta_schedule.TuneContext")
    context = make(module, target.to_tvm(), generator, None, "main", 1, seed, None)
    tvm.get_global_func("s_tir.meta_schedule.TuneContextInitialize")(context)
    sketches = generator.generate_design_space(module)
    schedule = sketches[seed % len(sketches)]
    if not all(postproc.apply(schedule) for postproc in generator.postprocs):
        raise ScheduleError(f"the draw of seed {seed} breaks a rule")
    if estimate_tir_flops(schedule.mod) > _MOST_OPERATIONS * estimate_tir_flops(module):
        raise ScheduleError(f"the draw of seed {seed} computes stages again and again")
    return schedule
