"""Which programs of one task are timed beside each other once all have been tried one after another."""

from collections.abc import Callable, Sequence

from tvm_prune.oracle.records import Record, Records
from tvm_prune.oracle.tasks import Kernel
from tvm_prune.oracle.tune_settings import TuneSettings

__all__ = ["close_kernels", "contestants"]


def close_kernels(kernels: Sequence[Kernel], records: Records, settings: TuneSettings) -> list[Kernel]:
    """Return those of a task's kernels that are nearly as fast as its fastest; those without a record are not."""
    best_s = {kernel.key: min(series) for kernel in kernels if (series := records.series(kernel.key))}
    limit_s = settings.contest_margin * min(best_s.values(), default=0.0)
    return [kernel for kernel in kernels if best_s.get(kernel.key, limit_s + 1) <= limit_s]


def contestants(
    kernels: Sequence[Kernel], records: Records, settings: TuneSettings, favourite: Callable[[Kernel], Sequence[str]]
) -> list[tuple[Kernel, Record]]:
    """Return the fastest programs of a task, the fastest of each kernel that is close, and the first `favourite` of
    each that was tried.

    Nobody meets alone: then the list is empty.
    """
    close = close_kernels(kernels, records, settings)
    tried = [(kernel, program) for kernel in close for program in records.programs(kernel.key)]
    ranked = sorted(tried, key=lambda item: item[1].latency_s)
    limit_s = settings.contest_margin * ranked[0][1].latency_s if ranked else 0.0
    fastest = ranked[: settings.contest_programs]
    names = [(kernel, program.name) for kernel, program in fastest if program.latency_s <= limit_s]
    names += [(kernel, records.programs(kernel.key)[0].name) for kernel in close]
    names += [(kernel, name) for kernel in close for name in favourite(kernel)[:1]]
    found = {(kernel.key, name): (kernel, records.record(kernel.key, name)) for kernel, name in names}
    entries = [(kernel, record) for kernel, record in found.values() if record is not None]
    return entries if len(entries) > 1 else []
