"""Answers of an oracle, kept and given again: a search repeated without compiler or device.

A file of lines: the context (target, pipeline version and whatever else decides an answer), then one line per answer,
keyed by the models' fingerprints. Of several answers to one question the last one counts.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tvm_prune.codec import decode, encode
from tvm_prune.errors import ConfigError, ReplayError
from tvm_prune.files import append_line, write_atomically
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.oracle.base import CostOracle
from tvm_prune.oracle.cost import Cost, Failure, Ratio
from tvm_prune.oracle.table import ProgramTable

__all__ = ["RecordingOracle", "ReplayOracle"]

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer", Cost, ProgramTable, Ratio)
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Cost, Failure, ProgramTable, Ratio)}


class RecordingOracle:
    """Passes every question on to `inner` and appends the answer to `path`.

    `context` decides together with the fingerprints whether an answer fits. Raises ReplayError if `path` holds answers
    of another context.
    """

    def __init__(
        self,
        inner: CostOracle,
        path: Path,
        *,
        context: Mapping[str, str],
        key: Callable[[CompressedModel], str] = fingerprint,
    ) -> None:
        self._inner = inner
        self._path = path
        self._key = key
        _drop_torn_end(path)
        if path.exists() and path.stat().st_size:
            _read(path, context)
        else:
            append_line(path, json.dumps({"context": dict(context)}, sort_keys=True))

    @property
    def seconds(self) -> dict[str, float]:
        """What the inner oracle's last call spent by stage, if it says so."""
        return dict(getattr(self._inner, "seconds", {}))

    @property
    def measurements(self) -> int:
        """Programs the inner oracle's last call timed, if it says so."""
        return int(getattr(self._inner, "measurements", 0))

    def estimate(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        """Ask for all prices and keep each."""
        answers = self._inner.estimate(models)
        for model, answer in zip(models, answers, strict=True):
            self._keep("estimate", [model], answer)
        return answers

    def predict(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        """Ask for all predictions and keep each."""
        answers = self._inner.predict(models)
        for model, answer in zip(models, answers, strict=True):
            self._keep("predict", [model], answer)
        return answers

    def cost(self, model: CompressedModel) -> Cost | Failure:
        """Ask for the cost and keep it."""
        return self._keep("cost", [model], self._inner.cost(model))

    def table(self, model: CompressedModel) -> ProgramTable | Failure:
        """Ask for the table and keep it."""
        return self._keep("table", [model], self._inner.table(model))

    def compare(
        self, incumbent: CompressedModel, candidate: CompressedModel, *, limit: float | None = None
    ) -> Ratio | Failure:
        """Ask for the ratio and keep it."""
        return self._keep("compare", [incumbent, candidate], self._inner.compare(incumbent, candidate, limit=limit))

    def _keep(self, question: str, models: Sequence[CompressedModel], answer: Answer | Failure) -> Answer | Failure:
        line = {
            "question": question,
            "models": [self._key(model) for model in models],
            "kind": type(answer).__name__,
            "answer": encode(answer),
        }
        append_line(self._path, json.dumps(line, sort_keys=True))
        return answer


class ReplayOracle:
    """Answers from what a RecordingOracle kept.

    Raises ReplayError for a missing, damaged or foreign file, and later for each question that was not asked then.
    """

    def __init__(
        self, path: Path, *, context: Mapping[str, str], key: Callable[[CompressedModel], str] = fingerprint
    ) -> None:
        self._path = path
        self._key = key
        self._answers = _read(path, context)

    def estimate(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        """Return the kept price of each model."""
        return [self._known("estimate", [model], Cost) for model in models]

    def predict(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        """Return the kept prediction of each model."""
        return [self._known("predict", [model], Cost) for model in models]

    def cost(self, model: CompressedModel) -> Cost | Failure:
        """Return the kept cost."""
        return self._known("cost", [model], Cost)

    def table(self, model: CompressedModel) -> ProgramTable | Failure:
        """Return the kept table."""
        return self._known("table", [model], ProgramTable)

    def compare(
        self, incumbent: CompressedModel, candidate: CompressedModel, *, limit: float | None = None
    ) -> Ratio | Failure:
        """Return the kept ratio of this pair, in this order, whatever limit it was measured for."""
        return self._known("compare", [incumbent, candidate], Ratio)

    def _known(self, question: str, models: Sequence[CompressedModel], kind: type[Answer]) -> Answer | Failure:
        keys = tuple(self._key(model) for model in models)
        answer = self._answers.get((question, keys))
        if not isinstance(answer, kind | Failure):
            raise ReplayError(
                f"{self._path} holds no {question} of {' against '.join(name[:12] for name in keys)}; measure and "
                f"record it where there is a compiler, or repeat the search with the settings it was recorded with"
            )
        return answer


_Key = tuple[str, tuple[str, ...]]


def _drop_torn_end(path: Path) -> None:
    """Cut what a kill left of a last line: the next answer would be glued to it."""
    if path.exists():
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            write_atomically(path, whole)


def _read(path: Path, context: Mapping[str, str]) -> dict[_Key, object]:
    try:
        lines = path.read_text().split("\n")
    except FileNotFoundError as error:
        raise ReplayError(f"there is no {path}; record a run first") from error
    if lines.pop():
        logger.warning("the last line of %s is incomplete and left out", path)
    answers: dict[_Key, object] = {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            if number == 1:
                _check_context(path, entry["context"], context)
                continue
            keys = tuple(str(name) for name in entry["models"])
            answers[str(entry["question"]), keys] = decode(_KINDS[entry["kind"]], entry["answer"])
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise ReplayError(
                f"line {number} of {path} is not a kept answer ({error}); remove that line, or record the run again"
            ) from error
    return answers


def _check_context(path: Path, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    different = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    if different:
        texts = [f"{name} was {found.get(name)!r}, is {wanted.get(name)!r}" for name in different]
        raise ReplayError(f"{path} was recorded elsewhere: {'; '.join(texts)}; record the run here, in another file")
