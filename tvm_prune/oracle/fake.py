"""An oracle without a compiler: a staircase over channels that tests and examples can compute by hand."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.count import LayerShape, layer_shapes
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.oracle.cost import Cost, Failure, Provenance, Ratio, Source
from tvm_prune.oracle.program import Axis, Program, Task
from tvm_prune.oracle.table import ProgramTable, Row

__all__ = ["LinearOracle"]


@dataclass(kw_only=True)
class LinearOracle:
    """Latency = `overhead_s` + over all layers: `launch_s` + work on output channels padded to whole vectors.

    One task per distinct layer shape; `seconds_per_mac` prices the padded work. Models whose `key` is in `failing` give
    a Failure. `calls` counts how often each method was asked, `seconds` and `measurements` describe the last call as
    if each task had taken `tuning_s`. `shapes` and `key` can be replaced, so that no torch module is needed.
    """

    lanes: int = 16
    seconds_per_mac: float = 1e-11
    launch_s: float = 1e-6
    overhead_s: float = 2e-5
    spread: float = 0.002
    tuning_s: float = 0.25
    failing: frozenset[str] = frozenset()
    shapes: Callable[[CompressedModel], Sequence[LayerShape]] = field(
        default=lambda model: layer_shapes(model.module, model.example_inputs)
    )
    key: Callable[[CompressedModel], str] = fingerprint
    calls: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    measurements: int = 0

    def estimate(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        """Price several models (source "summed")."""
        self._asked("estimate", models)
        return [self._failure(model) or self._priced(model, "summed") for model in models]

    def predict(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        """Return the same prices as predicted; nothing is measured for them."""
        self._asked("predict", models)
        self.measurements, self.seconds = 0, {}
        return [self._failure(model) or self._priced(model, "predicted") for model in models]

    def cost(self, model: CompressedModel) -> Cost | Failure:
        """Return the same figure as measured."""
        self._asked("cost", [model])
        return self._failure(model) or self._cost(model, "measured")

    def table(self, model: CompressedModel) -> ProgramTable | Failure:
        """Return the program table: rows and overhead add up to the whole exactly."""
        self._asked("table", [model])
        return self._failure(model) or ProgramTable(
            rows=self._rows(model), overhead_s=self.overhead_s, whole=self._cost(model, "measured")
        )

    def compare(
        self, incumbent: CompressedModel, candidate: CompressedModel, *, limit: float | None = None
    ) -> Ratio | Failure:
        """Return the exact ratio in intervals of `spread` to both sides; no `limit` makes it more exact."""
        self._asked("compare", [candidate])
        failure = self._failure(incumbent) or self._failure(candidate)
        if failure is not None:
            return failure
        before, after = self._latency(incumbent), self._latency(candidate)
        ratio = after / before
        return Ratio(
            median=ratio,
            low=ratio * (1 - self.spread),
            high=ratio * (1 + self.spread),
            median_low=ratio * (1 - self.spread),
            median_high=ratio * (1 + self.spread),
            incumbent_s=before,
            candidate_s=after,
            blocks=10,
        )

    def _asked(self, method: str, models: Sequence[CompressedModel]) -> None:
        self.calls[method] = self.calls.get(method, 0) + 1
        self.measurements = sum(len(self._rows(model)) for model in models)
        self.seconds = {"tune": self.tuning_s * self.measurements, "measure": self.tuning_s}

    def _failure(self, model: CompressedModel) -> Failure | None:
        if self.failing and self.key(model) in self.failing:
            return Failure(stage="build", message="asked to fail")
        return None

    def _priced(self, model: CompressedModel, source: Source) -> Cost:
        cost = self._cost(model, source)
        return replace(cost, latency_s=cost.latency_s - self.overhead_s)

    def _latency(self, model: CompressedModel) -> float:
        return self.overhead_s + sum(row.total_s for row in self._rows(model))

    def _cost(self, model: CompressedModel, source: Source) -> Cost:
        latency, params = self._latency(model), sum(shape.params for shape in self.shapes(model))
        return Cost(
            latency_s=latency,
            latency_spread_s=self.spread * latency,
            macs=sum(shape.macs for shape in self.shapes(model)),
            params=params,
            bytes=4 * params,
            provenance=Provenance(
                source=source, device="none", target=f"linear {self.lanes} lanes", tvm_version="none", threads=1
            ),
        )

    def _rows(self, model: CompressedModel) -> tuple[Row, ...]:
        tasks: dict[str, list[LayerShape]] = {}
        for shape in self.shapes(model):
            tasks.setdefault(_summary(shape), []).append(shape)
        return tuple(self._row(summary, shapes) for summary, shapes in tasks.items())

    def _row(self, summary: str, shapes: list[LayerShape]) -> Row:
        first = shapes[0]
        macs = first.macs // first.calls
        vectors = math.ceil(first.out_channels / self.lanes)
        padded = vectors * self.lanes
        latency = self.launch_s + self.seconds_per_mac * macs * padded / first.out_channels
        axes = {
            "out_c": Axis(extent=first.out_channels, padded_extent=padded, factors=(vectors, self.lanes)),
            "in_c": Axis(
                extent=first.in_channels // first.groups,
                padded_extent=first.in_channels // first.groups,
                factors=(first.in_channels // first.groups,),
            ),
        }
        program = Program(
            space="linear",
            space_version=1,
            variant="direct",
            axes=axes,
            lanes=self.lanes,
            parallel=1,
            latency_s=latency,
        )
        task = Task(
            hash=hashlib.sha256(summary.encode()).hexdigest()[:16],
            kind={"conv": "conv2d", "linear": "dense"}.get(first.kind, first.kind),
            shape=summary,
            weight=sum(shape.calls for shape in shapes),
            layers=tuple(shape.name for shape in shapes),
            macs=macs,
        )
        return Row(task=task, program=program, isolated_s=latency, in_situ_s=latency, trials=1)


def _summary(shape: LayerShape) -> str:
    def joined(values: tuple[int, ...]) -> str:
        return "x".join(str(value) for value in values) or "1"

    return (
        f"{shape.kind} {joined(shape.input_hw)} {shape.in_channels}->{shape.out_channels} k{joined(shape.kernel)} "
        f"s{joined(shape.stride)} g{shape.groups}"
    )
