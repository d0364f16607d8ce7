"""The append-only journal of a run: one header, then one line per finished trial, each with a checksum.

A killed process can leave at most a truncated last line; that line is dropped (its trial is repeated) and everything
before it stands. Any other damage means that the file is not what this run wrote, and stops it.
"""

import fcntl
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_prune.codec import STRICT, decode, encode
from tvm_prune.errors import ConfigError, JournalError
from tvm_prune.files import append_line, write_atomically
from tvm_prune.search.trial import Trial

__all__ = ["FORMAT", "Header", "Journal", "read_journal"]

FORMAT = 2
_OPENING = b'{"check": "'
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What makes two runs the same run: any difference refuses to resume.

    `settings` is the searcher's settings as JSON, `model` a digest of the dense model (structure and weights), `data`
    names the data set and its split, `packages` maps a package to its version.
    """

    method: str
    settings: dict[str, Any]
    seed: int
    model: str
    data: str
    target: str
    packages: dict[str, str]
    format: int = FORMAT
    __pydantic_config__ = STRICT


def _line(kind: str, value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    return json.dumps({"check": _checksum(text), kind: value}, sort_keys=True)


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _body(kind: str, line: bytes) -> object | None:
    """Return what `_line` wrapped, None when the line is damaged or of another kind."""
    try:
        outer = json.loads(line)
    except ValueError:
        return None
    if not isinstance(outer, dict) or set(outer) != {"check", kind}:
        return None
    body: object = outer[kind]
    return body if _checksum(json.dumps(body, sort_keys=True)) == outer["check"] else None


class Journal:
    """A journal open for appending: `trials` were finished before, `append` adds one."""

    def __init__(self, path: Path, trials: tuple[Trial, ...]) -> None:
        self.path = path
        self.trials = trials

    def append(self, trial: Trial) -> None:
        """Write one finished trial and force it to disk. Raises DiskFullError."""
        append_line(self.path, _line("trial", encode(trial)))

    @classmethod
    @contextmanager
    def opened(cls, path: Path, header: Header) -> Iterator["Journal"]:
        """Open or begin the journal at `path` for this process alone.

        Raises JournalError if another process has it open, if it is damaged before its last line, or if it belongs to a
        run with another header.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.with_suffix(".lock"), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise JournalError(
                    f"another process is searching in {path.parent}; wait for it, or choose another --out"
                ) from error
            lines, dropped = _complete_lines(path)
            if lines:
                _same_run(path, _header(path, lines[0]), header)
            trials = _trials(path, lines)
            if dropped:
                logger.warning("the last line of %s is incomplete: it is dropped and its trial is done again", path)
                write_atomically(path, b"".join(line + b"\n" for line in lines))
            if not lines:
                append_line(path, _line("header", encode(header)))
            yield cls(path, trials)


def read_journal(path: Path) -> tuple[Header, tuple[Trial, ...]]:
    """Return header and finished trials without changing the file; a truncated last line is left out.

    Raises JournalError if there is none or it is damaged.
    """
    if not path.exists():
        raise JournalError(f"there is no journal at {path}; give the --out folder of a run that was started")
    lines, _ = _complete_lines(path)
    if not lines:
        raise JournalError(f"{path} holds no complete line; start the run again")
    return _header(path, lines[0]), _trials(path, lines)


def _complete_lines(path: Path) -> tuple[list[bytes], bool]:
    """Return the lines up to a truncated last one, and whether that one was left out."""
    data = path.read_bytes() if path.exists() else b""
    lines = data.split(b"\n")
    tail = lines.pop()
    if not tail and lines and not _is_json(lines[-1]):
        # A lost disk block inside the last write: the end of the line can be there without its middle.
        tail = lines.pop()
    if tail and not lines and tail[: len(_OPENING)] != _OPENING[: len(tail)]:
        raise JournalError(f"{path} is not a journal; choose another --out, or remove the file if it is yours")
    return lines, bool(tail)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _header(path: Path, line: bytes) -> Header:
    body = _body("header", line)
    if body is None:
        raise JournalError(
            f"line 1 of {path} is not a header of this program; choose another --out, or remove the file if it is yours"
        )
    if isinstance(body, Mapping) and body.get("format") != FORMAT:
        raise JournalError(
            f"{path} has format {body.get('format')}, this version reads {FORMAT}; go on with the version that wrote "
            f"it, or choose another --out"
        )
    try:
        return decode(Header, body)
    except ConfigError as error:
        raise JournalError(f"the header of {path} cannot be read ({error}); choose another --out") from error


def _trials(path: Path, lines: list[bytes]) -> tuple[Trial, ...]:
    trials = []
    for number, line in enumerate(lines[1:]):
        body = _body("trial", line)
        place = f"line {number + 2} of {path}"
        if body is None:
            raise JournalError(
                f"{place} is damaged (its checksum does not fit); restore the file, or cut it before that line to go "
                f"on from there, or choose another --out"
            )
        try:
            trial = decode(Trial, body)
        except ConfigError as error:
            raise JournalError(f"{place} cannot be read ({error}); choose another --out") from error
        if trial.number != number:
            raise JournalError(
                f"{place} holds trial {trial.number} where {number} should be; cut the file before that line, or "
                f"choose another --out"
            )
        trials.append(trial)
    return tuple(trials)


def _same_run(path: Path, found: Header, wanted: Header) -> None:
    differences = list(_differences("", encode(found), encode(wanted)))
    if differences:
        raise JournalError(
            f"{path} belongs to another run: {'; '.join(differences)}. Give the same settings to resume it, or another "
            f"--out for a new run"
        )


def _differences(place: str, found: object, wanted: object) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in sorted({*found, *wanted}):
            yield from _differences(f"{place}.{name}".lstrip("."), found.get(name), wanted.get(name))
    elif found != wanted:
        yield f"{place} was {found!r} and is now {wanted!r}"
