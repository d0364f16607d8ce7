"""Program spaces: small sets of schedules worth measuring for one kind of kernel, enumerated, not sampled."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from tvm_prune.oracle.spaces import bit_planes, bit_serial, dense, direct_conv, loops, sketch, winograd
from tvm_prune.oracle.spaces.anatomy import Anatomy, dissect
from tvm_prune.oracle.spaces.candidate import Candidate, Point
from tvm_prune.oracle.target import Target

__all__ = ["SPACES", "enumerate_candidates", "points"]

_MODULES = (direct_conv, winograd, dense, bit_serial, bit_planes, loops, sketch)

_log = logging.getLogger(__name__)

_Space = Callable[[Any, Anatomy, Target], Iterator[Point]]
_SPACES: dict[str, list[_Space]] = {}
for _space in _MODULES:
    for _kind in _space.KINDS:
        _SPACES.setdefault(_kind, []).append(_space.points)

# Name -> version, part of the key of every record: raise a space's VERSION when its programs change.
SPACES = {space.NAME: space.VERSION for space in _MODULES}


def points(function: Any, target: Target) -> Iterator[Point]:
    """Yield the programs that may run `function`, the likeliest first."""
    anatomy = dissect(function)
    for space in _SPACES[anatomy.kind]:
        yield from space(function, anatomy, target)


def enumerate_candidates(function: Any, target: Target, *, limit: int) -> list[Candidate]:
    """Return at most `limit` scheduled forms of `function`, the likeliest first.

    A point that cannot be scheduled is left out. Raises ScheduleError if none can.
    """
    from tvm.s_tir import ScheduleError

    found: list[Candidate] = []
    refused: ScheduleError | None = None
    for point in points(function, target):
        if len(found) == limit:
            break
        try:
            found.append(point.candidate())
        except ScheduleError as error:
            _log.debug("this program cannot be scheduled: %s: %s", point.program.name, error)
            refused = error
    if refused is not None and not found:
        raise refused
    return found
