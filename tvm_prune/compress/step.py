"""Steps: typed changes of a model that go to JSON and back."""

from dataclasses import dataclass
from typing import Literal

from tvm_prune.codec import STRICT

__all__ = ["PruneStep", "Step"]


@dataclass(frozen=True, kw_only=True)
class PruneStep:
    """Keep only the channels `keep` (sorted, of the group's present width `width`) of dependency group `group`."""

    group: str
    width: int
    keep: tuple[int, ...]
    kind: Literal["prune"] = "prune"
    __pydantic_config__ = STRICT


Step = PruneStep
