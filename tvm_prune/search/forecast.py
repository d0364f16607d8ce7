"""What a smaller model should cost, from the program table alone: no compiler is asked."""

import math
from collections.abc import Iterable, Mapping, Sequence

from tvm_prune.compress.step import PruneStep
from tvm_prune.oracle.table import ProgramTable, Row
from tvm_prune.search.trial import ScoredGroup

__all__ = ["forecast"]


def forecast(table: ProgramTable, groups: Sequence[ScoredGroup], steps: Iterable[PruneStep]) -> float:
    """Return the seconds that the model of `table` should take once `steps` are carried out.

    A program keeps its speed per multiply-accumulate: its time falls with the vectors that its output channels fill and
    with its input channels, down to the cheapest kernel of the table, which stands for what any launch costs. What runs
    besides (pooling, the overhead) stays. Good enough to tell options apart, not to accept one.
    """
    kept = {step.group: len(step.keep) for step in steps}
    made = _channels([(group, group.outputs) for group in groups], kept)
    read = _channels([(group, group.inputs) for group in groups], kept)
    floor_s = min((row.in_situ_s for row in table.rows), default=0.0)
    saved_s = 0.0
    for row in table.rows:
        if not row.task.layers:
            continue
        each_s = row.total_s / len(row.task.layers)
        for layer in row.task.layers:
            part = _vectors(row, made.get(layer, (1, 1))) * _part(read.get(layer, (1, 1)))
            saved_s += max(0.0, min(each_s * (1 - part), each_s - floor_s))
    return table.whole.latency_s - saved_s


def _channels(
    sides: Iterable[tuple[ScoredGroup, Mapping[str, int]]], kept: Mapping[str, int]
) -> dict[str, tuple[int, int]]:
    """Return, by layer, the channels of one of its sides after and before the steps, over all groups it has part in."""
    found: dict[str, tuple[int, int]] = {}
    for group, layers in sides:
        for layer, per_unit in layers.items():
            after, before = found.get(layer, (0, 0))
            found[layer] = (after + kept.get(group.name, group.width) * per_unit, before + group.width * per_unit)
    return found


def _vectors(row: Row, channels: tuple[int, int]) -> float:
    lanes = row.program.lanes if row.program is not None else 1
    after, before = channels
    return math.ceil(after / lanes) / math.ceil(before / lanes)


def _part(channels: tuple[int, int]) -> float:
    after, before = channels
    return after / before
