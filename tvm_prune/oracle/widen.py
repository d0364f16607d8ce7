"""A network run as a slightly wider one whose channels fill whole vectors: the same results, other programs.

15 channels leave every pixel across two cache lines and every vector short; 16, the last of them zeros, do not. Kernels
may pad what they compute (relay_passes/choose_forms.py), but what lies in memory between them has the network's own
counts. Here the counts themselves are padded, in all layers that share the channels, wherever zeros provably change
nothing (relay_passes/channel_axes.py). Whether that pays is measured as for any two programs.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tvm_prune.oracle.lower import Lowered
from tvm_prune.oracle.program import Program, Task

__all__ = ["Widths", "as_asked", "widened"]

# Layer -> (channels stored, channels read) as the model has them, of layers that are computed wider.
Widths = Mapping[str, tuple[int, int]]

# Wider than that nothing is gained: 8 channels as 16 are twice the work.
_MOST_GROWTH = 1.3


def widened(lowered: Lowered, multiple: int) -> tuple[Lowered, Widths] | None:
    """Return `lowered` with channel counts rounded up to multiples of `multiple`, and the counts it had.

    None if there are none to round up, or none that may be.
    """
    from relay_passes.channel_axes import channel_axes
    from relay_passes.resize_channels import CannotResize, resize_channels

    grown: dict[tuple[str, int], int] = {}
    for channels in channel_axes(lowered.graph):
        wide = -(-channels.count // multiple) * multiple
        if channels.count < wide <= _MOST_GROWTH * channels.count:
            grown.update(dict.fromkeys(channels.axes, wide))
    if not grown:
        return None
    state = {name: _padded(array, name, grown) for name, array in lowered.state.items()}
    try:
        graph = resize_channels(lowered.graph, {name: array.shape for name, array in state.items()})
    except CannotResize:
        return None
    widths = {
        lowered.placeholders[name]: (array.shape[0], array.shape[1])
        for name, array in lowered.state.items()
        if array.ndim > 1 and name in lowered.placeholders and array.shape != state[name].shape
    }
    return replace(lowered, graph=graph, state=state), widths


def _padded(array: np.ndarray, name: str, grown: Mapping[tuple[str, int], int]) -> np.ndarray:
    missing = [(0, grown.get((name, axis), extent) - extent) for axis, extent in enumerate(array.shape)]
    return np.ascontiguousarray(np.pad(array, missing)) if any(after for _, after in missing) else array


def as_asked(task: Task, program: Program | None, widths: Widths) -> tuple[Task, Program | None]:
    """Return a task and its program with the channel counts that the model asked for beside those that are computed."""
    asked = [widths[layer] for layer in task.layers if layer in widths]
    if not asked:
        return task, program
    stored, read = min(asked)
    counts = f"{stored}" if task.kind == "depthwise" else f"{read} -> {stored}"
    task = replace(task, shape=f"{task.shape}, for {counts} channels")
    if program is None:
        return task, None
    axes = dict(program.axes)
    for role, count in (("out_c", stored), ("in_c", read)):
        if role in axes and count < axes[role].extent:
            axes[role] = replace(axes[role], extent=count)
    return task, replace(program, axes=axes)
