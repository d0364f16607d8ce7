"""One side of a latency comparison: exported models loaded in a process of their own that stays, timed on demand.

    python -m benchmarks.side KIND THREADS FOLDER...

Each FOLDER is what ``tvm-prune export`` writes. Reads lines {"model": place, "calls": N} on standard input and answers
{"seconds": of one call} each; the first answer is {"outputs": [[...], ...]}, model by model, of inputs drawn with
seed 0. All sides are timed by this one loop.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["INTEGER_KINDS", "KINDS"]

Call = Callable[[], Any]


def _about(folder: Path) -> Any:
    return json.loads((folder / "bundle" / "bundle.json").read_text())


def _random_inputs(folder: Path) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal(port["shape"]).astype(port["dtype"]) for port in _about(folder)["inputs"]]


def _ours(folder: Path, threads: int, inputs: list[np.ndarray]) -> Call:
    import tvm
    from tvm import relax

    library = tvm.runtime.load_module(str((folder / "bundle" / _about(folder)["library"]).resolve()))
    main = relax.VirtualMachine(library, tvm.cpu())["main"]
    tensors = [tvm.runtime.tensor(array) for array in inputs]
    return lambda: main(*tensors)


def _ours_int8(folder: Path, threads: int, inputs: list[np.ndarray]) -> Call:
    return _ours(folder / "int8", threads, inputs)


def _ours_mixed(folder: Path, threads: int, inputs: list[np.ndarray]) -> Call:
    return _ours(folder / "mixed", threads, inputs)


def _onnxruntime(folder: Path, threads: int, inputs: list[np.ndarray], *, name: str = "model.onnx") -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / name), sess_options=options, providers=["CPUExecutionProvider"])
    feed = {port.name: array for port, array in zip(session.get_inputs(), inputs, strict=True)}
    return lambda: session.run(None, feed)


def _onnxruntime_int8(folder: Path, threads: int, inputs: list[np.ndarray]) -> Call:
    return _onnxruntime(folder, threads, inputs, name="model_int8.onnx")


def _torch_eager(folder: Path, threads: int, inputs: list[np.ndarray], *, compiled: bool = False) -> Call:
    import torch

    torch.set_num_threads(threads)
    module: Any = torch.export.load(folder / "model.pt2").module()
    tensors = [torch.from_numpy(array) for array in inputs]
    if compiled:
        module = torch.compile(module)

    def call() -> Any:
        with torch.inference_mode():
            return module(*tensors)

    return call


def _torch_compile(folder: Path, threads: int, inputs: list[np.ndarray]) -> Call:
    return _torch_eager(folder, threads, inputs, compiled=True)


KINDS = {"ours": _ours, "ort": _onnxruntime, "torch_eager": _torch_eager, "torch_compile": _torch_compile}
# These need what benchmarks/integers.py writes besides.
INTEGER_KINDS = {"ours_int8": _ours_int8, "ours_mixed": _ours_mixed, "ort_int8": _onnxruntime_int8}


def _flat(outputs: Any) -> list[float]:
    values = [outputs] if hasattr(outputs, "shape") else list(outputs)
    arrays = [np.asarray(value.numpy() if hasattr(value, "numpy") else value) for value in values]
    return [float(value) for array in arrays for value in array.ravel()]


def main() -> None:
    """Serve until standard input ends."""
    kind, threads, folders = sys.argv[1], int(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
    for name in ("TVM_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = str(threads)
    # Whatever a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    calls = [{**KINDS, **INTEGER_KINDS}[kind](folder, threads, _random_inputs(folder)) for folder in folders]
    print(json.dumps({"outputs": [_flat(call()) for call in calls]}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        call, count = calls[request["model"]], request["calls"]
        begin = time.perf_counter()
        for _ in range(count):
            call()
        print(json.dumps({"seconds": (time.perf_counter() - begin) / count}), file=answers)


if __name__ == "__main__":
    main()
