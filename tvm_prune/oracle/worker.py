"""Persistent helper processes: requests and answers as lines of JSON over pipes.

A worker hides torch before tvm is imported (`import tvm` would import it: seconds, and the scripted tensor intrinsics
parse far slower beside it) and sets the thread count before the first launch. It may crash or hang: the caller gets a
`WorkerDied`, starts it again at the next request and goes on.
"""

import contextlib
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tvm_prune.errors import ToolchainError

__all__ = ["Worker", "WorkerDied", "serve"]

Emit = Callable[[Any], None]

_START_SECONDS = 120.0
# Modules that hold a worker's functions, by role: each has FUNCTIONS: dict[name, function(arguments, emit) -> answer].
_ROLES = {"build": "tvm_prune.oracle.build_worker", "run": "tvm_prune.oracle.run_worker"}


class WorkerDied(Exception):  # noqa: N818 - an outcome that callers count, not an error for the user
    """The worker crashed or exceeded its time: about the candidate it worked on, not about the set-up."""


class Worker:
    """One helper process of a `role`, started at the first request and again after it died."""

    def __init__(self, role: str, *, threads: int) -> None:
        self.role = role
        self.threads = threads
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._answers: queue.Queue[bytes | None] = queue.Queue()

    @property
    def process(self) -> "subprocess.Popen[bytes] | None":
        """The process now running, to notice that it was replaced."""
        return self._process

    def start(self) -> None:
        """Start the process without waiting for it, so that several can import at once."""
        if self._process is not None and self._process.poll() is None:
            return
        self.stop()  # closes the pipes of a process that died by itself
        environment = dict(os.environ)
        environment["TVM_NUM_THREADS"] = str(self.threads)
        root = str(Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tvm_prune.oracle.worker", self.role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the main process, which ends its workers itself
        )
        self._answers = queue.Queue()
        threading.Thread(target=_pump, args=(self._process, self._answers), daemon=True).start()
        self._ready = False

    def request(self, function: str, arguments: Any, *, timeout_s: float, emit: Emit | None = None) -> Any:
        """Call `function` in the worker. `emit` gets what it reports on the way; `timeout_s` bounds each silence.

        Raises WorkerDied on a crash, a time-out or an error inside the function.
        """
        self.start()
        if not self._ready:
            if self._next(_START_SECONDS, starting=True) != {"ready": self.role}:
                raise ToolchainError(f"the {self.role} worker did not start; run 'tvm-prune doctor' to see why")
            self._ready = True
        process = self._process
        assert process is not None
        assert process.stdin is not None
        line = json.dumps({"function": function, "arguments": arguments}).encode() + b"\n"
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except BrokenPipeError as error:
            self.stop()
            raise WorkerDied(f"the {self.role} worker was gone before {function}") from error
        try:
            return self._answer(timeout_s, emit)
        except WorkerDied:
            raise
        except BaseException:
            # Interrupted: the answer still to come would be taken for that of the next request.
            self.stop()
            raise

    def _answer(self, timeout_s: float, emit: Emit | None) -> Any:
        while True:
            answer = self._next(timeout_s, starting=False)
            if "emit" in answer:
                if emit is not None:
                    emit(answer["emit"])
            elif "error" in answer:
                raise WorkerDied(answer["error"])
            else:
                return answer["answer"]

    def _next(self, timeout_s: float, *, starting: bool) -> Any:
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self.stop()
            if starting:
                raise ToolchainError(f"the {self.role} worker did not start within {timeout_s:g} s") from None
            raise WorkerDied(f"no answer within {timeout_s:g} s; stopped") from None
        if line is None or not line.endswith(b"\n"):  # the end, perhaps in the middle of an answer
            code = self._process.wait() if self._process is not None else None
            self.stop()
            if starting:
                raise ToolchainError(
                    f"the {self.role} worker ended with status {code} while starting; "
                    f"try: python -m tvm_prune.oracle.worker {self.role}"
                )
            raise WorkerDied(f"crashed with status {code}")
        return json.loads(line)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # with a compiler or linker it may have started
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            self._process = None


def _pump(process: "subprocess.Popen[bytes]", answers: "queue.Queue[bytes | None]") -> None:
    assert process.stdout is not None
    with contextlib.suppress(ValueError):  # closed by stop()
        for line in process.stdout:
            answers.put(line)
    answers.put(None)


def _requests() -> Iterator[Any]:
    for line in sys.stdin.buffer:
        yield json.loads(line)


def serve(role: str) -> None:
    """Answer requests until the pipe closes. The worker's own prints go to stderr, never into the answers."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # hides it from `import tvm`
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def send(message: Any) -> None:
        channel.write(json.dumps(message).encode() + b"\n")
        channel.flush()

    functions = importlib.import_module(_ROLES[role]).FUNCTIONS
    send({"ready": role})
    for request in _requests():
        try:
            answer = functions[request["function"]](request["arguments"], lambda value: send({"emit": value}))
        except Exception as error:  # the border of a candidate: whatever it raises is its failure, with its text
            send({"error": f"{type(error).__name__}: {str(error)[-2000:]}"})
        else:
            send({"answer": answer})


if __name__ == "__main__":
    serve(sys.argv[1])
