"""Program spaces: small sets of schedules worth measuring for one kind of kernel, enumerated, not sampled."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from tvm_prune.oracle.spaces import dense, direct_conv, loops
from tvm_prune.oracle.spaces.anatomy import Anatomy, dissect
from tvm_prune.oracle.spaces.candidate import Candidate
from tvm_prune.oracle.target import Target

__all__ = ["SPACES", "enumerate_candidates"]

_SPACES: dict[str, Callable[[Any, Anatomy, Target], Iterator[Candidate]]] = {
    kind: space.candidates for space in (direct_conv, dense, loops) for kind in space.KINDS
}

# Name -> version, part of the key of every record: raise a space's VERSION when its programs change.
SPACES = {space.NAME: space.VERSION for space in (direct_conv, dense, loops)}


def enumerate_candidates(function: Any, target: Target, *, limit: int) -> list[Candidate]:
    """Return at most `limit` scheduled forms of `function`, the likeliest first."""
    anatomy = dissect(function)
    return list(islice(_SPACES[anatomy.kind](function, anatomy, target), limit))
