"""The program table from the readings of a stamped module, taken in the same rounds as the plain one's."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tvm_prune.oracle.prepare import Prepared
from tvm_prune.oracle.table import Row
from tvm_prune.oracle.timing import median_share
from tvm_prune.oracle.widen import as_asked

__all__ = ["overhead_in_place", "rows_in_place"]


def rows_in_place(
    item: Prepared, calls: Sequence[str], stamped: Sequence[Mapping[str, Any]], whole: Sequence[float]
) -> tuple[Row, ...]:
    """Return a row for each task of `item`.

    `calls` names the task of each kernel call, `stamped` holds {calls, between} round by round (see `Bench.times`),
    `whole` the seconds of the plain module. A task takes its median share of the whole, of which the plain module's
    median is known best.
    """
    places: dict[str, list[int]] = {}
    for place, task_hash in enumerate(calls):
        places.setdefault(task_hash, []).append(place)
    median = statistics.median(whole)
    rows = []
    for task in item.graph.tasks:
        record = item.choice.record[task.hash]
        series = [sum(read["calls"][place] for place in places.get(task.hash, ())) for read in stamped]
        each = median * median_share(series, whole) / task.weight
        shown, program = as_asked(task, None if record is None else record.program, item.widths)
        rows.append(
            Row(
                task=shown,
                program=program,
                isolated_s=each if record is None else record.program.latency_s,
                in_situ_s=each,
                trials=0 if record is None else record.trials,
            )
        )
    return tuple(rows)


def overhead_in_place(stamped: Sequence[Mapping[str, Any]], whole: Sequence[float]) -> float:
    """Return the seconds of one run that are spent between kernels: calls, checks of shapes, memory.

    Read in the running module, with caches and branch predictors as the kernels leave them. Part of what stamping costs
    is in it.
    """
    return statistics.median(whole) * median_share([read["between"] for read in stamped], whole)
