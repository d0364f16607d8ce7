"""MetaSchedule's own search on given kernels, in a process of its own; told to stop by ending it.

    python -m benchmarks.stock_tuner TASKS WORK CURVE

TASKS is a JSON list of {module, weight}, WORK a folder for the search's database. Every batch of measurements adds
{seconds, task, trials, best_s} to CURVE, a JSON object a line: seconds since the search began, place of the kernel,
programs measured in the batch, seconds of its fastest program so far (null = none ran).
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import tvm
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule
from tvm.s_tir.meta_schedule.measure_callback import MeasureCallback, PyMeasureCallback

_FAILED_S = 1e9
# More than the caller's patience.
_TRIALS = 1_000_000
# Programs of a batch. With the 64 it has by default most kernels would have no program before it is ended.
_BATCH = 8


@derived_object
class _Curve(PyMeasureCallback):  # type: ignore[misc]  # the decorator's class is untyped
    """Writes what each batch found."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.begin = time.perf_counter()
        self.best: dict[int, float] = {}
        self.path = path

    def apply(
        self, task_scheduler: Any, task_id: int, measure_candidates: Any, builder_results: Any, runner_results: Any
    ) -> None:
        """Add one line."""
        for result in runner_results:
            if result.run_secs:
                seconds = sum(float(value) for value in result.run_secs) / len(result.run_secs)
                if seconds < _FAILED_S:
                    self.best[task_id] = min(seconds, self.best.get(task_id, seconds))
        line = {
            "seconds": time.perf_counter() - self.begin,
            "task": int(task_id),
            "trials": len(runner_results),
            "best_s": self.best.get(task_id),
        }
        with open(self.path, "a") as file:
            print(json.dumps(line), file=file)


def main() -> None:
    """Search until ended."""
    tasks, work, curve = (Path(name) for name in sys.argv[1:4])
    described = json.loads(tasks.read_text())
    target = tvm.ir.load_json(described["target"])
    contexts = [
        meta_schedule.TuneContext(
            mod=tvm.ir.load_json(item["module"])["main"].with_attr("global_symbol", "main"),
            target=target,
            space_generator="post-order-apply",
            search_strategy="evolutionary",
            task_name=f"task{place}",
            num_threads=described["threads"],
            rand_state=place + 1,
        ).clone()
        for place, item in enumerate(described["tasks"])
    ]
    meta_schedule.tune.tune_tasks(
        tasks=contexts,
        task_weights=[float(item["weight"]) for item in described["tasks"]],
        work_dir=str(work),
        max_trials_global=_TRIALS,
        num_trials_per_iter=_BATCH,
        measure_callbacks=[_Curve(curve), *MeasureCallback.create("default")],
    )


if __name__ == "__main__":
    main()
