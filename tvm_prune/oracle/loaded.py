"""Whole modules of one oracle: compiled when first asked for, and loaded in its bench until others push them out."""

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tvm_prune.errors import RecordsError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.oracle.bench import Bench
from tvm_prune.oracle.builders import Builders
from tvm_prune.oracle.canary import Canary
from tvm_prune.oracle.module import Blueprint, Compiled, blueprint
from tvm_prune.oracle.objects import Form, KernelObjects
from tvm_prune.oracle.prepare import Prepared
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.worker import Worker, WorkerDied

__all__ = ["BuildFailed", "LoadedModules"]

# Modules that stay loaded for the next comparison; at least two.
_KEPT_MODULES = 16


class BuildFailed(Exception):  # noqa: N818 - an outcome of one model; a Failure outside
    """A whole module that the compiler or the linker refuses."""


class LoadedModules:
    """Compiles modules into `folder` and gives them names in `bench`, beside the canary; `clock` times a stage."""

    def __init__(
        self,
        target: Target,
        folder: Path,
        *,
        builders: Builders,
        objects: KernelObjects,
        bench: Bench,
        canary: Canary,
        clock: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._target = target
        self._folder = folder
        self._builders = builders
        self._objects = objects
        self._bench = bench
        self._canary = canary
        self._clock = clock
        self._number = itertools.count()
        self._names: dict[str, str] = {}

    def build(self, item: Prepared, *forms: Form, library: Path | None = None) -> list[Compiled]:
        """Compile the module in each of `forms`, several at once; `library` is where one form goes.

        Raises BuildFailed, RecordsError.
        """
        # Never a path used before: the loader would run the old code.
        paths = [library or self._folder / f"{form}{next(self._number)}.so" for form in forms]

        def build(builder: Worker, work: tuple[Blueprint, Path]) -> Compiled:
            return work[0].compile(builder, self._target, work[1], objects=self._objects)

        with self._clock("build"):
            try:
                drafts = [blueprint(item.lowered, item.choice, self._target, form=form) for form in forms]
                self._objects.provide([source for draft in drafts for source in draft.kernels.values()])
                return list(self._builders.each(build, list(zip(drafts, paths, strict=True))))
            except RecordsError:
                raise  # a broken set-up, no property of this model
            except (RuntimeError, WorkerDied) as error:
                reason = str(error).strip().splitlines()[-1]
                raise BuildFailed(f"compiling the whole module failed: {reason}") from error

    def name(self, model: CompressedModel, item: Prepared) -> str:
        """Return the bench name of the model's module, built if it is not there. Latency does not depend on weights."""
        key = fingerprint(model)
        if key not in self._names:
            (compiled,) = self.build(item, "plain")
            self._keep(key, self.add(item, compiled))
        # Back to the end of the queue: an incumbent must not go when its sixteenth rival comes.
        self._names[key] = self._names.pop(key)
        return self._names[key]

    def stamped(self, model: CompressedModel, item: Prepared) -> tuple[str, str, Compiled]:
        """Return the names of the model's module and of one that writes down when its kernels run, and that build.

        The second is the caller's to remove.
        """
        key = fingerprint(model)
        forms: tuple[Form, ...] = ("stamped",) if key in self._names else ("stamped", "plain")
        stamped, *plain = self.build(item, *forms)
        for compiled in plain:
            self._keep(key, self.add(item, compiled))
        return self.name(model, item), self.add(item, stamped), stamped

    def add(self, item: Prepared, compiled: Compiled) -> str:
        """Load a module that is deleted when it is removed; return its bench name."""
        self._bench.set_canary(self._canary.kernel)
        return self._bench.add(compiled.library, item.lowered.inputs, temporary=True)

    def forget(self) -> None:
        """Drop all modules: they will be built anew."""
        for name in self._names.values():
            self._bench.remove(name)
        self._names.clear()

    def _keep(self, key: str, name: str) -> None:
        self._names[key] = name
        if len(self._names) > _KEPT_MODULES:
            oldest = next(iter(self._names))
            self._bench.remove(self._names.pop(oldest))
