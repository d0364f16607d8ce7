"""What a searcher proposes and what it is told: values only, no tvm and no torch."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from tvm_prune.codec import STRICT
from tvm_prune.compress.step import PruneStep
from tvm_prune.oracle.cost import Cost, Ratio
from tvm_prune.oracle.table import ProgramTable

__all__ = ["Accuracy", "Proposal", "ScoredGroup", "Searcher", "State", "Trial", "trial_seed"]


class State(StrEnum):
    """How far a trial came."""

    PRICED = "priced"  # estimated only, as asked
    FAILED = "failed"  # could not be built or run; `note` says why
    TOO_SLOW = "too slow"  # latency gate not cleared
    INACCURATE = "inaccurate"  # accuracy gate not cleared
    ACCEPTED = "accepted"  # cleared every gate it was given


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Correct answers out of all, top-1."""

    correct: float
    total: int
    __pydantic_config__ = STRICT

    @property
    def fraction(self) -> float:
        """Accuracy in 0..1."""
        return self.correct / self.total


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """One candidate: the accepted trial it grows from and the steps to add.

    `price_only` stops after the estimate; `probe` adds how far it is from its parent before any training. `forecast_s`
    is a latency that the searcher has worked out by itself and that takes the place of the estimate, `predicted` asks
    for a prediction instead of it. `max_ratio` is the
    latency gate against the parent (None = no gate); `min_accuracy` the accuracy gate as a fraction on the validation
    split (None = no gate); `finetune_steps` the optimizer steps of short-term training.
    """

    parent: int
    steps: tuple[PruneStep, ...]
    price_only: bool = False
    probe: bool = False
    forecast_s: float | None = None
    predicted: bool = False
    max_ratio: float | None = None
    min_accuracy: float | None = None
    finetune_steps: int = 0
    note: str = ""
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class ScoredGroup:
    """A dependency group of one model as a searcher sees it: values only.

    `width` counts the units that can be removed one by one, `scores` holds one importance per unit (higher = keep).
    `outputs` maps each weighted layer that produces the units to its channels per unit, `inputs` each layer that reads
    them to the input elements it takes per unit (more than 1 behind a flatten).
    """

    name: str
    width: int
    prunable: bool
    reason: str
    scores: tuple[float, ...]
    outputs: dict[str, int]
    inputs: dict[str, int]
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A proposal with its outcome. Trial 0 is the dense model.

    `cost` is predicted for a priced trial (None where the searcher gave its own forecast) and measured for one that
    reached the gate; `distance` is how far the answers of a priced trial are from its parent's before training, None if
    it was not asked for or cannot be had; `table` and `groups` are filled for accepted trials; `seconds` maps a stage
    (prune, probe, lower, tune, build, measure, refit, finetune, evaluate, other) to wall-clock seconds and sums to the
    trial's whole; `measurements` counts the programs timed for it.
    """

    number: int
    proposal: Proposal | None
    state: State
    cost: Cost | None = None
    distance: float | None = None
    ratio: Ratio | None = None
    accuracy: Accuracy | None = None
    table: ProgramTable | None = None
    groups: tuple[ScoredGroup, ...] | None = None
    seed: int = 0
    note: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    measurements: int = 0
    __pydantic_config__ = STRICT

    @property
    def built(self) -> bool:
        """Whether the whole model was asked for, not its price alone."""
        return self.proposal is None or not self.proposal.price_only


def trial_seed(run_seed: int, number: int) -> int:
    """Return the seed of trial `number`, a function of the two numbers alone, so that a resume repeats it."""
    digest = hashlib.sha256(f"{run_seed}:{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


class Searcher(Protocol):
    """Decides what to try next; never measures, trains or reads a clock.

    The loop calls `ask`, carries the proposals out and calls `tell` once per trial, in order. A searcher is a
    deterministic function of what it was told: a resume replays the journal through `tell`.
    """

    def ask(self) -> tuple[Proposal, ...]:
        """Return the next proposals, all independent of each other; none = finished, see `stop_reason`."""

    def tell(self, trial: Trial) -> None:
        """Take the outcome of one trial."""

    @property
    def stop_reason(self) -> str:
        """Why `ask` returned nothing, in words for the report."""
