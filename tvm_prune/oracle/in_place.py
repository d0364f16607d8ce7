"""Rows of the program table from the readings of a stamped module, taken in the same rounds as the plain one's."""

import statistics
from collections.abc import Sequence

from tvm_prune.oracle.prepare import Prepared
from tvm_prune.oracle.table import Row
from tvm_prune.oracle.timing import median_share

__all__ = ["rows_in_place"]


def rows_in_place(
    item: Prepared, calls: Sequence[str], stamped: Sequence[Sequence[float]], whole: Sequence[float]
) -> tuple[Row, ...]:
    """Return a row for each task of `item`.

    `calls` names the task of each kernel call, `stamped` holds the seconds of every call round by round, `whole` those
    of the plain module. A task takes its median share of the whole, of which the plain module's median is known best.
    """
    places: dict[str, list[int]] = {}
    for place, task_hash in enumerate(calls):
        places.setdefault(task_hash, []).append(place)
    median = statistics.median(whole)
    rows = []
    for task in item.graph.tasks:
        record = item.choice.record[task.hash]
        series = [sum(seconds[place] for place in places.get(task.hash, ())) for seconds in stamped]
        each = median * median_share(series, whole) / task.weight
        rows.append(
            Row(
                task=task,
                program=None if record is None else record.program,
                isolated_s=each if record is None else record.program.latency_s,
                in_situ_s=each,
                trials=0 if record is None else record.trials,
            )
        )
    return tuple(rows)
