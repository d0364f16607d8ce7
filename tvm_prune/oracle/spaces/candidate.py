"""One point of a program space: the description of a program, how to schedule it, and the schedule."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tvm_prune.codec import decode, dumps
from tvm_prune.oracle.program import Program

__all__ = ["PROGRAM_ATTRIBUTE", "Candidate", "Point", "copy_border", "divisors", "program_of_trace"]

PROGRAM_ATTRIBUTE = "tvm_prune.program"


@dataclass(frozen=True)
class Candidate:
    """A scheduled kernel (tvm Schedule) and its program; the latency is 0 until it is measured."""

    schedule: Any
    program: Program


@dataclass(frozen=True)
class Point:
    """A program of a space before it is scheduled; `schedule` makes its tvm Schedule or raises ScheduleError."""

    program: Program
    schedule: Callable[[], Any]

    def candidate(self) -> Candidate:
        """Schedule it and write the program into the trace, which by itself holds splits without their loops' roles."""
        schedule = self.schedule()
        schedule.annotate(schedule.get_sblock("root"), PROGRAM_ATTRIBUTE, dumps(self.program))
        return Candidate(schedule, self.program)


def divisors(number: int, *, at_most: int | None = None) -> list[int]:
    """Return the divisors of `number` in rising order, none above `at_most`."""
    limit = number if at_most is None else min(number, at_most)
    return [divisor for divisor in range(1, limit + 1) if number % divisor == 0]


def copy_border(schedule: Any, pad: Any, at: Any, lanes: int) -> None:
    """Make the padded copy of the image at loop `at`, of the part that is read there; few channels in one vector."""
    schedule.compute_at(pad, at, preserve_unit_loops=True)
    *_, channel = schedule.get_loops(pad)
    if int(schedule.get(channel).extent) <= 4 * lanes:
        schedule.vectorize(channel)


def program_of_trace(trace_json: Any, *, latency_s: float) -> Program | None:
    """Return the program, with `latency_s`, that is written in a trace (its JSON form); None for a foreign trace."""
    for name, inputs, attributes, _outputs in trace_json[0]:
        if name == "Annotate" and attributes == [PROGRAM_ATTRIBUTE]:
            # The trace's JSON puts the text between quotes without escaping what is inside.
            return replace(decode(Program, json.loads(inputs[1][1:-1])), latency_s=latency_s)
    return None
