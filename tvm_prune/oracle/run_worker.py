"""What the run worker does: time kernels and whole modules, and run them on inputs; only numpy and tvm are there."""

import base64
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

from relay_passes.stamp_calls import STAMP_WORDS
from tvm_prune.oracle.rotation import random_buffer, rotate, rotations
from tvm_prune.oracle.worker_process import Emit

__all__ = ["FUNCTIONS"]


@dataclass(frozen=True)
class _Loaded:
    """Something callable: a virtual machine's ``main`` or a library's kernel, and the tensors it is timed on."""

    holder: Any
    symbol: str
    inputs: list[Any]


# Blocks of each candidate before the finalists are chosen.
_TURNS = 3
# Threads that fell asleep are back on their cores by then (docs/benchmarks/launch.md).
_AWAKE_S = 2e-4

_modules: dict[str, _Loaded] = {}


def _array(packed: Any) -> np.ndarray:
    data = base64.b64decode(packed["data"])
    return np.frombuffer(data, dtype=packed["dtype"]).reshape(packed["shape"])


def _packed(array: np.ndarray) -> Any:
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"data": data, "dtype": str(array.dtype), "shape": list(array.shape)}


def time_kernels(arguments: Any, emit: Emit) -> Any:
    """Time `kernels` ({symbol, buffers, weight, parallel} each) of `library` on random `buffers` ([shape, dtype] each).

    The buffer of number `weight` (null = none) is as far from the core as it will be in a network, where other weights
    have passed since it was last read: every call takes another copy of it.

    Emits {symbol, times_s} for each as it is first timed, so that a crash costs one candidate. All are timed three
    times in turns, then the `finalists` best for `rounds` more: a machine that changes its speed favours none. With a
    `canary` (null = none) every turn is set against that kernel's own time, on as many threads: seconds are those at
    its `usual_s`. Answers {symbol: [seconds, ...]}.
    """
    library = tvm.runtime.load_module(arguments["library"])
    loop = rotate(Path(arguments["library"]).parent)
    turns = rotations(arguments["kernels"])
    block_s = arguments["block_s"]
    calls: dict[str, int] = {}
    times: dict[str, list[float]] = {}

    parallel = {kernel["symbol"]: kernel["parallel"] for kernel in arguments["kernels"]}
    yardsticks = {symbol: "canary" if value else "canary_serial" for symbol, value in parallel.items()}
    speed = _speed(arguments["canary"], block_s, set(yardsticks.values()))

    def block(symbol: str, now: dict[str, float]) -> float:
        lists = turns[symbol]
        if len(lists) == 1:
            if parallel[symbol]:
                _wake(library[symbol], lists[0])
            evaluate = library.time_evaluator(symbol, tvm.cpu(), number=calls[symbol], repeat=1)
            seconds = evaluate(*lists[0]).results[0]
        else:
            evaluate = loop.time_evaluator("rotate", tvm.cpu(), number=1, repeat=1)
            passed = (calls[symbol], library[symbol], len(lists[0]), *itertools.chain(*lists))
            if parallel[symbol]:
                # By the same loop, so that no copy is near because of it.
                _wake(loop["rotate"], (1, *passed[1:]))
            seconds = evaluate(*passed).results[0] / calls[symbol]
        return float(seconds) * now[yardsticks[symbol]]

    now = speed()
    for symbol, lists in turns.items():
        emit({"starting": symbol})
        kernel = library[symbol]
        kernel(*lists[0])
        begin = time.perf_counter()
        kernel(*lists[-1])
        once = max(time.perf_counter() - begin, 1e-6)
        calls[symbol] = max(2, min(2000, int(block_s / once)))
        times[symbol] = [block(symbol, now)]
        emit({"symbol": symbol, "times_s": times[symbol]})
    for _ in range(_TURNS - 1):
        now = speed()
        for symbol, values in times.items():
            emit({"starting": symbol})
            values.append(block(symbol, now))
    finalists = sorted(times, key=lambda symbol: statistics.median(times[symbol]))[: arguments["finalists"]]
    rounds: dict[str, list[float]] = {symbol: [] for symbol in finalists}
    for _ in range(arguments["rounds"]):
        now = speed()
        for symbol in finalists:
            emit({"starting": symbol})
            rounds[symbol].append(block(symbol, now))
    # The machine may have changed its speed since: those left out must not look faster for it.
    medians = [statistics.median(rounds[symbol]) / statistics.median(times[symbol]) for symbol in finalists]
    slower = max(1.0, statistics.median(medians))
    left_out = {symbol: statistics.median(values) * slower for symbol, values in times.items() if symbol not in rounds}
    return {**{symbol: [value] for symbol, value in left_out.items()}, **rounds}


def _wake(call: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """Call until the threads of what is called are awake: a block after a rest would be of one thread at first."""
    end = time.perf_counter() + _AWAKE_S
    while time.perf_counter() < end:
        call(*arguments)


# Of the largest value: what different orders of summing, and Winograd's transforms, may differ by.
_TOLERANCE = 1e-3


def disagreeing(arguments: Any, emit: Emit) -> list[str]:
    """Return those of the kernels `symbols` of `library` that do not compute what the first of them does.

    With a `reference` (path of a library that has a kernel of that name), what that one computes. All run on the same
    random buffers of `buffers` ([shape, dtype] each); the last is what they write.
    """
    library = tvm.runtime.load_module(arguments["library"])
    *inputs, _ = [random_buffer(shape, dtype) for shape, dtype in arguments["buffers"]]
    shape, dtype = arguments["buffers"][-1]

    def output(kernel: Any) -> np.ndarray:
        # What a kernel does not write must not look like another's result.
        buffer = tvm.runtime.tensor(np.full(shape, np.nan if dtype.startswith("float") else np.iinfo(dtype).max, dtype))
        kernel(*inputs, buffer)
        return np.asarray(buffer.numpy())

    if arguments.get("reference") is None:
        expected = output(library[arguments["symbols"][0]])
    else:
        expected = output(tvm.runtime.load_module(arguments["reference"])["reference"])
    atol = _TOLERANCE * float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
    return [
        symbol
        for symbol in arguments["symbols"]
        if not np.allclose(output(library[symbol]), expected, rtol=0.0, atol=atol, equal_nan=True)
    ]


def _speed(canary: Any, block_s: float, symbols: set[str]) -> Callable[[], dict[str, float]]:
    """Return a function that says how fast the machine is just now by each of the canary's programs, 1 = as usual."""
    if canary is None:
        return lambda: dict.fromkeys(symbols, 1.0)
    blocks = {symbol: _blocks_of({**canary, "symbol": symbol}, block_s) for symbol in symbols}
    return lambda: {symbol: float(canary["usual_s"][symbol]) / block() for symbol, block in blocks.items()}


def _blocks_of(kernel: Any, block_s: float) -> Callable[[], float]:
    """Return a function that times `kernel` (library, symbol, buffers) for a block: seconds of one call."""
    name = f"blocks of {kernel['symbol']} in {kernel['library']}"
    if name not in _modules:
        wanted = {key: kernel[key] for key in ("library", "symbol", "buffers")}
        load({"name": name, **wanted}, lambda value: None)
    loaded = _modules[name]
    calls = _calls(loaded, block_s)

    def block() -> float:
        _wake(loaded.holder[loaded.symbol], loaded.inputs)
        evaluate = loaded.holder.time_evaluator(loaded.symbol, tvm.cpu(), number=calls, repeat=1)
        return float(evaluate(*loaded.inputs).results[0])

    return block


def usual_seconds(arguments: Any, emit: Emit) -> float:
    """Return the seconds of one call of a kernel (library, symbol, buffers) when nothing holds the machine up."""
    block = _blocks_of(arguments, 1e-3)
    values = []
    for _ in range(60):
        time.sleep(0.005)
        values.append(block())
    return sorted(values)[len(values) // 5]


def load(arguments: Any, emit: Emit) -> Any:
    """Load a library under `name`: a module with `inputs` (packed arrays) to be timed on, or its kernel `symbol`."""
    library = tvm.runtime.load_module(arguments["library"])
    if arguments.get("symbol") is not None:
        buffers = [random_buffer(shape, dtype) for shape, dtype in arguments["buffers"]]
        _modules[arguments["name"]] = _Loaded(library, arguments["symbol"], buffers)
    else:
        machine = relax.VirtualMachine(library, tvm.cpu())
        inputs = [tvm.runtime.tensor(_array(packed)) for packed in arguments["inputs"]]
        _modules[arguments["name"]] = _Loaded(machine, "main", inputs)
    return None


def unload(arguments: Any, emit: Emit) -> Any:
    """Forget the module `name`."""
    _modules.pop(arguments["name"], None)
    return None


def run(arguments: Any, emit: Emit) -> Any:
    """Run the module `name` on `inputs` (packed arrays; null = those it was loaded with); answer packed outputs."""
    module = _modules[arguments["name"]]
    inputs = module.inputs
    if arguments["inputs"] is not None:
        inputs = [tvm.runtime.tensor(_array(packed)) for packed in arguments["inputs"]]
    outputs = module.holder[module.symbol](*inputs)
    tensors = [outputs] if hasattr(outputs, "numpy") else list(outputs)
    return [_packed(tensor.numpy()) for tensor in tensors]


def time_modules(arguments: Any, emit: Emit) -> Any:
    """Time the modules `names` in alternating blocks of `block_s` seconds with `rest_s` between.

    Answers {name: [seconds of one call, block by block]}. All names see the same rounds, so values of one round pair
    up. `stamped` (a name or null) fills a block of each round too, at most `stamp_runs` runs at a time as its buffer
    of `stamp_words` has room for: its key in the answer holds {calls, between} a round, the seconds of each kernel call
    and of all that lies between them.
    """
    names, stamped = arguments["names"], arguments["stamped"]
    calls = {name: _calls(_modules[name], arguments["block_s"]) for name in names}
    runs = min(arguments["stamp_runs"], 1 + min(calls.values()))
    answer: dict[str, list[Any]] = {name: [] for name in names}
    if stamped is not None:
        answer[stamped] = []
    for number in range(arguments["blocks"]):
        for name in names if number % 2 == 0 else reversed(names):
            time.sleep(arguments["rest_s"])
            module = _modules[name]
            _wake(module.holder[module.symbol], module.inputs)
            evaluate = module.holder.time_evaluator(module.symbol, tvm.cpu(), number=calls[name], repeat=1)
            answer[name].append(float(evaluate(*module.inputs).results[0]))
        if stamped is not None:
            time.sleep(arguments["rest_s"])
            answer[stamped].append(_stamps(_modules[stamped], arguments, runs))
        emit({"block": number})
    return answer


def _calls(module: "_Loaded", block_s: float) -> int:
    """Return how many calls fill a block; warms the module up."""
    function = module.holder[module.symbol]
    for _ in range(3):
        function(*module.inputs)
    begin = time.perf_counter()
    for _ in range(3):
        function(*module.inputs)
    once = (time.perf_counter() - begin) / 3
    return max(3, min(2000, int(block_s / max(once, 1e-6))))


def _stamps(module: "_Loaded", arguments: Any, runs: int) -> dict[str, Any]:
    """Run a stamped module for a block; return the mean over runs of the seconds of each kernel call, in order, and
    of all that lies between them, from the end of one run to the end of the next.

    As long as the other blocks, and called by the same loop: what is compared must be averaged alike. See
    relay_passes/stamp_calls.py for the layout. The first run of each filling warms up what rested and does not count.
    """
    calls: list[np.ndarray] = []
    between: list[np.ndarray] = []
    scratch = np.zeros(arguments["stamp_words"], "int64")
    _wake(lambda *inputs: module.holder[module.symbol](*inputs, tvm.runtime.tensor(scratch)), module.inputs)
    end = time.perf_counter() + arguments["block_s"]
    while not calls or time.perf_counter() < end:
        stamps = tvm.runtime.tensor(np.zeros(arguments["stamp_words"], "int64"))
        # The loop runs once more than it is told to, before it reads the clock.
        evaluate = module.holder.time_evaluator(module.symbol, tvm.cpu(), number=runs - 1, repeat=1)
        evaluate(*module.inputs, stamps)
        written = stamps.numpy()
        rows = written[1 : 1 + written[0]].reshape(runs, -1, STAMP_WORDS)
        seconds = (rows[:, :, 2] - rows[:, :, 0]) + 1e-9 * (rows[:, :, 3] - rows[:, :, 1])
        ends = rows[:, -1, 2] + 1e-9 * rows[:, -1, 3]
        calls.append(seconds[1:])
        between.append(np.diff(ends) - seconds[1:].sum(axis=1))
    return {
        "calls": [float(value) for value in np.concatenate(calls).mean(axis=0)],
        "between": float(np.concatenate(between).mean()),
    }


FUNCTIONS = {
    "disagreeing": disagreeing,
    "load": load,
    "run": run,
    "time_kernels": time_kernels,
    "time_modules": time_modules,
    "unload": unload,
    "usual_seconds": usual_seconds,
}
