"""Persistent helper processes: requests and answers as lines of JSON over pipes.

A worker is forked from a process that has imported TVM already (see nursery.py), with a thread count of its own. It
may crash or hang: the caller gets a `WorkerDied`, starts it again at the next request and goes on.
"""

import contextlib
import json
import os
import queue
import threading
from typing import Any

from tvm_prune.errors import ToolchainError
from tvm_prune.oracle.nursery import Child, nursery
from tvm_prune.oracle.worker_process import Emit

__all__ = ["Worker", "WorkerDied"]

_START_SECONDS = 120.0


class WorkerDied(Exception):  # noqa: N818 - an outcome that callers count, not an error for the user
    """The worker crashed or exceeded its time: about the candidate it worked on, not about the set-up."""


class Worker:
    """One helper process of a `role`, started at the first request and again after it died."""

    def __init__(self, role: str, *, threads: int) -> None:
        self.role = role
        self.threads = threads
        self._process: Child | None = None
        self._ready = False
        self._answers: queue.Queue[bytes | None] = queue.Queue()

    @property
    def process(self) -> Child | None:
        """The process now running, to notice that it was replaced."""
        return self._process

    def start(self) -> None:
        """Start the process without waiting for it."""
        if self._process is not None and not self._process.ended:
            return
        self.stop()  # closes the pipes of a process that died by itself
        self._process = nursery().fork(self.role, {**os.environ, "TVM_NUM_THREADS": str(self.threads)})
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
                    f"try: python -m tvm_prune.oracle.worker_process {self.role}"
                )
            raise WorkerDied(f"crashed with status {code}")
        return json.loads(line)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.close()
            self._process = None


def _pump(process: Child, answers: "queue.Queue[bytes | None]") -> None:
    with contextlib.suppress(ValueError):  # closed by stop()
        for line in process.stdout:
            answers.put(line)
    process.ended = True
    answers.put(None)
