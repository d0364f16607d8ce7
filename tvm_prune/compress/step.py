"""Steps: typed changes of a model that go to JSON and back."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from tvm_prune.codec import STRICT
from tvm_prune.graph.compressed import StoredAs

__all__ = ["PruneStep", "QuantizeStep", "Step"]


@dataclass(frozen=True, kw_only=True)
class PruneStep:
    """Keep only the channels `keep` (sorted, of the group's present width `width`) of dependency group `group`."""

    group: str
    width: int
    keep: tuple[int, ...]
    kind: Literal["prune"] = "prune"
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class QuantizeStep:
    """Fold batch norms and give layers the number formats `precision` (short names, graph/scheme.py), the rest float32.

    `stored` says how tensors are kept, `weight_scales` how long the steps of weights are; both as CompressedModel has
    them.
    """

    precision: dict[str, str]
    stored: dict[str, StoredAs]
    weight_scales: dict[str, tuple[float, ...]] = field(default_factory=dict)
    kind: Literal["quantize"] = "quantize"
    __pydantic_config__ = STRICT


Step = Annotated[PruneStep | QuantizeStep, Field(discriminator="kind")]
