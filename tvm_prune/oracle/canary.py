"""The canary: one small convolution with one fixed program. When it is slow, the machine is slow, not the model."""

from pathlib import Path
from typing import Any

from tvm_prune.oracle.spaces import enumerate_candidates
from tvm_prune.oracle.target import Target

__all__ = ["build_canary"]

_HEIGHT, _CHANNELS = 16, 32


def build_canary(target: Target, library: Path) -> tuple[str, list[Any]]:
    """Compile the canary to `library`; return its symbol and its buffers as [shape, dtype]."""
    import tvm
    from tvm import te, topi

    data = te.placeholder((1, _HEIGHT, _HEIGHT, _CHANNELS), name="data")
    weight = te.placeholder((3, 3, _CHANNELS, _CHANNELS), name="weight")
    result = topi.nn.relu(topi.nn.conv2d_nhwc(data, weight, 1, 1, 1))
    function = te.create_prim_func([data, weight, result])
    (candidate,) = enumerate_candidates(function, target, limit=1)
    body = candidate.schedule.mod["main"].with_attr("global_symbol", "canary")
    tvm.compile(tvm.IRModule({"canary": body}), target=target.to_tvm()).export_library(str(library))
    return "canary", [[[int(extent) for extent in param.shape], "float32"] for param in function.params]
