"""The layout of a run folder, in one place."""

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tvm_prune.errors import ConfigError
from tvm_prune.files import write_atomically

__all__ = ["PACKAGES", "RunFolder", "Stages", "package_versions"]

# What a run's figures depend on; a resumed run must have the same.
PACKAGES = ("apache-tvm", "apache-tvm-ffi", "torch", "tvm-prune")


def package_versions() -> dict[str, str]:
    """Return the installed version of each package in `PACKAGES`; "absent" where it is not installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


@dataclass(frozen=True)
class RunFolder:
    """Where everything of one run lies. The search's journal and trials are in `path` itself."""

    path: Path

    @property
    def records(self) -> Path:
        """Tuning records."""
        return self.path / "records"

    @property
    def dense_weights(self) -> Path:
        """Weights of the dense network, where this run trained it."""
        return self.path / "dense.safetensors"

    @property
    def final(self) -> Path:
        """Retrained models by trial number."""
        return self.path / "final"

    def uniform(self, settings: Mapping[str, object]) -> Path:
        """Return the run folder of a uniform baseline; other settings have another one."""
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        return self.path / "uniform" / digest

    @property
    def measured(self) -> Path:
        """Tables and ratio of the dense and the final model."""
        return self.path / "measured.json"

    @property
    def recipe(self) -> Path:
        """The steps from the dense to the pruned model."""
        return self.path / "recipe.json"

    @property
    def weights(self) -> Path:
        """Weights of the pruned model."""
        return self.path / "weights.safetensors"

    @property
    def bundle(self) -> Path:
        """Compiled library, parameters and a script that runs them without torch."""
        return self.path / "bundle"

    @property
    def pt2(self) -> Path:
        """The pruned model as an archive of torch.export."""
        return self.path / "model.pt2"

    @property
    def onnx(self) -> Path:
        """The pruned model as ONNX."""
        return self.path / "model.onnx"

    @property
    def summary(self) -> Path:
        """The outcome in figures."""
        return self.path / "summary.json"

    @property
    def report_data(self) -> Path:
        """All values of the report, from which it can be drawn again."""
        return self.path / "report.json"

    @property
    def stages(self) -> Path:
        """Wall-clock seconds of what is not a trial."""
        return self.path / "stages.json"


class Stages:
    """Wall-clock seconds by stage, kept on disk so that they add up over interrupted starts."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time inside the ``with`` block to `name`, also when it is left by an error."""
        started = self._clock()
        try:
            yield
        finally:
            seconds = self.seconds()
            seconds[name] = seconds.get(name, 0.0) + self._clock() - started
            write_atomically(self._path, json.dumps(seconds, sort_keys=True) + "\n")

    def seconds(self) -> dict[str, float]:
        """Return the sums so far. Raises ConfigError for a damaged file."""
        if not self._path.exists():
            return {}
        try:
            return {str(name): float(value) for name, value in json.loads(self._path.read_text()).items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise ConfigError(f"{self._path} is damaged ({error}); delete it, only timings are lost") from error
