"""What a worker does with what it is asked, seen from its pipes."""

import json
import subprocess
import sys


def test_a_worker_alone_answers_on_standard_output_until_its_input_ends() -> None:
    command = [sys.executable, "-m", "tvm_prune.oracle.worker_process", "run"]
    asked = [
        {"function": "unload", "arguments": {"name": "nothing"}},
        {"function": "run", "arguments": {"name": "nothing", "inputs": None}},
        {"function": "dance", "arguments": None},
    ]
    text = "".join(json.dumps(request) + "\n" for request in asked)
    process = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in process.stdout.splitlines()] == [
        {"ready": "run"},
        {"answer": None},
        {"error": "KeyError: 'nothing'"},
        {"error": "KeyError: 'dance'"},
    ]
