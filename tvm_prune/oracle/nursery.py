"""A process that has imported TVM once and forks the workers from itself.

`import tvm` takes over two seconds of a core. The build workers and the run worker of every oracle would pay them
each, at the start and again after every crash; forked they are there in milliseconds.

    main process --socket--> nursery --fork--> worker
         '------------------pipes---------------^

The nursery ends with its main process, whose end of the socket closes; workers end when their pipe does.
"""

import atexit
import contextlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tvm_prune.errors import ToolchainError

__all__ = ["Child", "Nursery", "nursery"]


# Far more than the import of TVM takes on a slow machine: a nursery that is silent for so long hangs.
_ANSWER_SECONDS = 120.0


class Child:
    """A process that the nursery forks: its two pipes, how to kill it and how it ended."""

    def __init__(self, parent: "Nursery", number: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.stdin = stdin
        self.stdout = stdout
        # Whether it is known to have ended: its pipe was closed, or somebody waited for it.
        self.ended = False
        self._parent = parent
        self._number = number
        self._pid: int | None = None
        self._status: int | None = None

    @property
    def pid(self) -> int:
        """The process's number, once the nursery has come to forking it. Raises ToolchainError if that has ended."""
        if self._pid is None:
            self._pid = self._parent.answer(self._number)
        return self._pid

    def kill(self) -> None:
        """End the process, and with it a compiler or linker that it may have started."""
        with contextlib.suppress(ProcessLookupError, ToolchainError):
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:  # it has no group of its own yet
                os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int | None:
        """Wait for the end of a process that is about to end: minus the signal that ended it, or its exit code.

        None if the nursery ended before.
        """
        if self._status is None:
            with contextlib.suppress(ToolchainError):
                self._status = self._parent.answer(self._parent.ask({"wait": self.pid}))
            self.ended = True
        return self._status

    def close(self) -> None:
        """Close the pipes: the process ends when it next looks for a request."""
        for pipe in (self.stdin, self.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class Nursery:
    """The main process's end of one nursery. Threads may share it."""

    def __init__(self) -> None:
        root = str(Path(__file__).parents[2])
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self.owner = os.getpid()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tvm_prune.oracle.worker_process", "--fork", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the main process, which ends its workers itself
            )
        self._numbers = itertools.count()
        self._unread = b""
        self._answers: dict[int, int] = {}
        self._asking = threading.Lock()
        self._reading = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def fork(self, role: str, variables: Mapping[str, str]) -> Child:
        """Order a worker of `role` with these environment variables; it may still have to wait for the import."""
        requests, stdin = os.pipe()
        stdout, answers = os.pipe()
        request = {"role": role, "variables": dict(variables), "folder": os.getcwd()}
        try:
            number = self.ask(request, descriptors=[requests, answers])
        finally:
            os.close(requests)
            os.close(answers)
        return Child(self, number, os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb"))

    def ask(self, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> int:
        """Send a request, with open files if need be; return its number. That the nursery ended shows in the answer."""
        with self._asking, contextlib.suppress(OSError):
            number = next(self._numbers)
            line = json.dumps({"number": number, **request}).encode() + b"\n"
            # The files go with the first byte, the rest of a long line in as many pieces as it takes.
            socket.send_fds(self._socket, [line[:1]], descriptors)
            self._socket.sendall(line[1:])
        return number

    def answer(self, number: int) -> int:
        """Wait for the answer to a request. Raises ToolchainError if the nursery ended, or is ended for its silence."""
        with self._reading:
            while number not in self._answers:
                data = b""
                with contextlib.suppress(ConnectionResetError):
                    if self._socket.fileno() >= 0 and self._readable():
                        data = self._socket.recv(65536)
                if not data:
                    self.close()
                    raise ToolchainError("the process that starts workers ended; run 'tvm-prune doctor' to see why")
                *lines, self._unread = (self._unread + data).split(b"\n")
                for line in lines:
                    found = json.loads(line)
                    self._answers[found["number"]] = found["answer"]
            return self._answers.pop(number)

    def _readable(self) -> bool:
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        return bool(waiting.poll(_ANSWER_SECONDS * 1e3))

    def close(self) -> None:
        """End the process, unless it belongs to the one that this process was forked from.

        Workers that it forked live on until their pipes close.
        """
        self._socket.close()
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()


_nursery: Nursery | None = None
_starting = threading.Lock()


def nursery() -> Nursery:
    """Return this process's nursery, started if there is none that runs. Does not wait for it."""
    global _nursery
    with _starting:
        if _nursery is None or _nursery.owner != os.getpid() or not _nursery.alive:
            if _nursery is None:
                atexit.register(_end)
            else:
                _nursery.close()
            _nursery = Nursery()
        return _nursery


def _end() -> None:
    if _nursery is not None:
        _nursery.close()
