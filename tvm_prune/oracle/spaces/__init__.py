"""Program spaces: small sets of schedules worth measuring for one kind of kernel, enumerated, not sampled."""

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from tvm_prune.oracle.spaces import dense, direct_conv, loops, winograd
from tvm_prune.oracle.spaces.anatomy import Anatomy, dissect
from tvm_prune.oracle.spaces.candidate import Candidate
from tvm_prune.oracle.target import Target

__all__ = ["SPACES", "enumerate_candidates", "space_size"]

_MODULES = (direct_conv, winograd, dense, loops)

_log = logging.getLogger(__name__)

_SPACES: dict[str, Callable[[Any, Anatomy, Target], Iterator[Callable[[], Candidate]]]] = {
    kind: space.candidates for space in _MODULES for kind in space.KINDS
}

# Name -> version, part of the key of every record: raise a space's VERSION when its programs change.
SPACES = {space.NAME: space.VERSION for space in _MODULES}


def enumerate_candidates(function: Any, target: Target, *, limit: int) -> list[Candidate]:
    """Return at most `limit` scheduled forms of `function`, the likeliest first.

    A point that cannot be scheduled is left out. Raises ScheduleError if none can.
    """
    from tvm.s_tir import ScheduleError

    anatomy = dissect(function)
    found: list[Candidate] = []
    refused: ScheduleError | None = None
    for make in _SPACES[anatomy.kind](function, anatomy, target):
        if len(found) == limit:
            break
        try:
            found.append(make())
        except ScheduleError as error:
            _log.debug("a point of the space of a %s kernel cannot be scheduled: %s", anatomy.kind, error)
            refused = error
    if refused is not None and not found:
        raise refused
    return found


def space_size(function: Any, target: Target, *, limit: int) -> int:
    """Return how many points the space of `function` has, counted up to `limit`."""
    anatomy = dissect(function)
    return sum(1 for _ in islice(_SPACES[anatomy.kind](function, anatomy, target), limit))
