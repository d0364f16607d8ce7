"""Object files of kernels: each program is compiled once and linked into every module that runs it.

A pruned network shares most of its kernels with the network it came from. Compiling them anew for each module would be
nearly all of a build.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tvm_prune.codec import encode
from tvm_prune.errors import RecordsError
from tvm_prune.oracle.builders import Builders
from tvm_prune.oracle.launcher import compile_launcher
from tvm_prune.oracle.object_cache import ObjectCache
from tvm_prune.oracle.records import Record
from tvm_prune.oracle.spaces import dot_product
from tvm_prune.oracle.symbol import program_symbol
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel
from tvm_prune.oracle.worker import Worker

__all__ = ["Form", "KernelObjects", "KernelSource", "scheduled"]

Form = Literal["plain", "stamped"]

_TIMEOUT_S = 120.0
# No kernel's symbol begins with a capital.
_LAUNCHER = "Launcher"


def scheduled(found: Kernel, record: Record) -> Any:
    """Return the PrimFunc of `found` after the record's trace. Raises RecordsError when the trace does not fit."""
    import tvm
    from tvm.s_tir import Schedule
    from tvm.s_tir.meta_schedule.database import TuningRecord, Workload

    dot_product.register()
    workload = Workload(tvm.IRModule({"main": found.function}))
    schedule = Schedule(workload.mod)
    try:
        TuningRecord.from_json(record.record_json, workload).trace.apply_to_schedule(schedule, remove_postproc=False)
    except (RuntimeError, ValueError, TypeError) as error:
        raise RecordsError(
            f"a tuning record of kernel {found.key} does not replay ({str(error).splitlines()[0]}); "
            "it comes from another version: delete the records folder and tune again"
        ) from error
    return schedule.mod["main"]


@dataclass(frozen=True)
class KernelSource:
    """What an object file is made from: a kernel, the record of its program (None = default schedule), and a form.

    `results` counts the buffers the kernel writes, `stamp_words` the words of the stamps buffer; both matter only to
    the stamped form.
    """

    kernel: Kernel
    record: Record | None
    form: Form
    results: int
    stamp_words: int

    @property
    def symbol(self) -> str:
        """A name that no other code has: by what the kernel computes, its program and its form."""
        program = program_symbol(self.kernel.key, None if self.record is None else self.record.record_json[0])
        return f"{program}_stamped{self.stamp_words}" if self.form == "stamped" else program

    def function(self) -> Any:
        """Return the PrimFunc to compile. Raises RecordsError when the record does not fit the kernel."""
        from relay_passes.stamp_calls import stamped

        function = self.kernel.function if self.record is None else scheduled(self.kernel, self.record)
        return stamped(function, self.stamp_words, results=self.results) if self.form == "stamped" else function


class KernelObjects:
    """The object files of one oracle, in `folder`; ``SYMBOL.o`` defines SYMBOL. Tuning leaves those of its winners.

    What modules are linked from is fetched from `cache` where it holds it, and kept there.
    """

    def __init__(self, target: Target, folder: Path, builders: Builders, cache: ObjectCache) -> None:
        self.folder = folder
        self._cache = cache
        self._target = target
        self._builders = builders
        self._compiling = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, symbol: str) -> Path:
        """Return where the object file of `symbol` is or will be."""
        return self.folder / f"{symbol}.o"

    @property
    def launcher(self) -> Path:
        """The object file of the threads that every library has; compiled when first asked for.

        Raises ToolchainError.
        """
        path = self.path(_LAUNCHER)
        # Several libraries are linked at once; none may find half a file.
        with self._compiling:
            if not path.exists() and not self._cache.fetch(_LAUNCHER, path):
                compile_launcher(self._target, path)
                self._cache.keep(_LAUNCHER, path)
        return path

    def linked(self, symbols: Iterable[str]) -> list[str]:
        """Return the paths of what a library of `symbols` is linked from."""
        return [str(self.launcher), *(str(self.path(symbol)) for symbol in dict.fromkeys(symbols))]

    def drop(self, symbols: Iterable[str]) -> None:
        """Delete the files of `symbols` that are there."""
        for symbol in symbols:
            self.path(symbol).unlink(missing_ok=True)

    def close(self) -> None:
        """Let the cache drop what is too much."""
        self._cache.close()

    def provide(self, sources: Sequence[KernelSource]) -> None:
        """Fetch or compile those that are missing, several at once.

        Raises WorkerDied with the compiler's words if it refuses one, RecordsError as `KernelSource.function`.
        """
        import tvm

        wanted = {source.symbol: source for source in sources}
        requests = [
            {
                "module": tvm.ir.save_json(
                    tvm.IRModule({symbol: source.function().with_attr("global_symbol", symbol)})
                ),
                "target": encode(self._target),
                "object": str(self.path(symbol)),
            }
            for symbol, source in wanted.items()
            if not self.path(symbol).exists() and not self._cache.fetch(symbol, self.path(symbol))
        ]
        for _ in self._builders.each(_compile, requests):
            pass
        for symbol in wanted:
            self._cache.keep(symbol, self.path(symbol))


def _compile(builder: Worker, request: Any) -> None:
    builder.request("build_kernel", request, timeout_s=_TIMEOUT_S)
