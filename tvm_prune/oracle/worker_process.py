"""What the processes of nursery.py run: the loop that forks workers, and a worker's that answers requests.

Torch is hidden before tvm is imported: `import tvm` would import it (seconds, and the scripted tensor intrinsics parse
far slower beside it). Nothing is compiled or launched before a fork: TVM starts its threads at the first launch, in the
worker, as many as the worker is told.

    python -m tvm_prune.oracle.worker_process ROLE       one worker on standard input and output, to see what it says
"""

import importlib
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["ROLES", "Emit", "serve"]

Emit = Callable[[Any], None]

# Modules that hold a worker's functions, by role: each has FUNCTIONS: dict[name, function(arguments, emit) -> answer].
ROLES = {"build": "tvm_prune.oracle.build_worker", "run": "tvm_prune.oracle.run_worker"}


def serve(role: str, requests: int, answers: int) -> None:
    """Answer requests (lines of JSON, as the answers) until their pipe closes. Both are numbers of open files."""
    channel = os.fdopen(answers, "wb")

    def send(message: Any) -> None:
        channel.write(json.dumps(message).encode() + b"\n")
        channel.flush()

    functions = importlib.import_module(ROLES[role]).FUNCTIONS
    send({"ready": role})
    for line in os.fdopen(requests, "rb"):
        request = json.loads(line)
        try:
            answer = functions[request["function"]](request["arguments"], lambda value: send({"emit": value}))
        except Exception as error:  # the border of a candidate: whatever it raises is its failure, with its text
            send({"error": f"{type(error).__name__}: {str(error)[-2000:]}"})
        else:
            send({"answer": answer})


def _fork(control: socket.socket) -> None:
    """Fork workers and tell how they ended, request by request, until the main process is gone."""
    for module in ROLES.values():
        importlib.import_module(module)
    unread, files = b"", []
    while True:
        while b"\n" not in unread:
            data, received, _, _ = socket.recv_fds(control, 65536, 2)
            if not data:
                return
            unread += data
            files += received
        line, unread = unread.split(b"\n", 1)
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            requests, answers, *files = files  # those of requests that were sent since wait behind
            answer = os.fork()
            if answer == 0:
                for other in (control.detach(), *files):
                    os.close(other)  # a pipe's end shows only when nobody else holds it open
                _become(request, requests, answers)
            os.close(requests)
            os.close(answers)
        control.sendall(json.dumps({"number": request["number"], "answer": answer}).encode() + b"\n")


def _become(request: Any, requests: int, answers: int) -> None:
    """Be the worker of a request: the forked process ends in here."""
    code = 1
    try:
        os.setsid()
        os.environ.clear()
        os.environ.update(request["variables"])
        os.chdir(request["folder"])
        serve(request["role"], requests, answers)
        code = 0
    finally:
        # Never back into the nursery's loop, nor to what it has registered for its own end.
        os._exit(code)


if __name__ == "__main__":
    sys.modules["torch"] = None  # type: ignore[assignment]  # hides it from `import tvm`
    if sys.argv[1] == "--fork":
        _fork(socket.socket(fileno=int(sys.argv[2])))
    else:
        own = os.dup(1)
        os.dup2(2, 1)  # what the worker prints goes to standard error, never into the answers
        serve(sys.argv[1], os.dup(0), own)
