"""What a model costs on a device, where the figure comes from, and how two models compare."""

from dataclasses import dataclass
from typing import Literal

from tvm_prune.codec import STRICT

__all__ = ["Cost", "Failure", "Provenance", "Ratio", "Source"]

Source = Literal["measured", "summed", "predicted", "untuned"]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a cost comes from. Costs of different provenance are never compared silently.

    `source`: measured = the whole compiled module was timed; summed = the sum of its tasks' measured programs;
    predicted = such a sum in which the predictor stands in for tasks without a record; untuned = some task ran a
    default schedule.
    """

    source: Source
    device: str
    target: str
    tvm_version: str
    threads: int
    repeats: int = 0
    trials: int = 0
    __pydantic_config__ = STRICT

    def comparable(self, other: "Provenance") -> bool:
        """Whether two figures may stand in one column: same source, device, target, compiler and threads."""
        mine = (self.source, self.device, self.target, self.tvm_version, self.threads)
        return mine == (other.source, other.device, other.target, other.tvm_version, other.threads)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Latency (median and spread over repeats, seconds), multiply-accumulates, parameters and weight bytes."""

    latency_s: float
    latency_spread_s: float
    macs: int
    params: int
    bytes: int
    provenance: Provenance
    __pydantic_config__ = STRICT

    def __str__(self) -> str:
        return (
            f"{self.latency_s * 1e3:.3f} ms ± {self.latency_spread_s * 1e3:.3f} ({self.provenance.source}), "
            f"{self.macs / 1e6:.1f} MMACs, {self.params / 1e3:.1f} k params"
        )


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Candidate over incumbent latency, paired block by block.

    `low` and `high` are the 10th and 90th percentile of the blocks: how much one block says. `median_low` and
    `median_high` enclose the median with a confidence of 95 %: how well it is known, which more blocks improve.
    """

    median: float
    low: float
    high: float
    median_low: float
    median_high: float
    incumbent_s: float
    candidate_s: float
    blocks: int
    __pydantic_config__ = STRICT

    def clears(self, limit: float) -> bool:
        """Whether the whole interval of the median lies at or below `limit`: the only form of a latency gate."""
        return self.median_high <= limit

    def known_within(self, part: float) -> bool:
        """Whether the interval of the median is at most `part` of the median wide."""
        return self.median_high - self.median_low <= part * self.median

    def tells(self, limit: float) -> bool:
        """Whether the interval of the median lies on one side of `limit`."""
        return self.median_high <= limit or limit < self.median_low


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A candidate that could not be built, run or trusted: a value with its text, not an exception."""

    stage: Literal["lower", "build", "run", "parity"]
    message: str
    __pydantic_config__ = STRICT
