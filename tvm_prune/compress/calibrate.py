"""Calibration: which range of each stored tensor its 256 integers are spread over, from what it holds on real data.

Two passes: the first finds the least and greatest value, the second counts values in 2048 bins between them. An
observer then chooses the range:

    minmax      all of it
    percentile  what is left without the outermost 0.001 % on either side
    mse         the part of it whose rounding and clipping errors have the least mean square
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import fx

from tvm_prune.errors import QuantizationError
from tvm_prune.graph.compressed import CompressedModel, StoredAs
from tvm_prune.graph.integer_ops import MOST
from tvm_prune.graph.stored_tensors import stored_nodes, traced_graph

__all__ = ["Observer", "calibrate"]

Observer = Literal["minmax", "percentile", "mse"]

_BINS = 2048
_OUTSIDE = 1e-5
# Parts of the range that are tried.
_PARTS = np.linspace(0.2, 1.0, 81)


@dataclass
class _Seen:
    low: float = 0.0
    high: float = 0.0
    counts: np.ndarray | None = None


def calibrate(
    model: CompressedModel, layers: Collection[str], batches: Iterable[torch.Tensor], *, observer: Observer = "mse"
) -> dict[str, StoredAs]:
    """Return how the tensors that integer `layers` read are stored, by node name.

    `batches` are inputs of the model, any number in each, gone through twice. Raises QuantizationError for none, and
    for weights or a tensor with values that are not finite.
    """
    graph = traced_graph(model, any_batch=True)
    for name, parameter in graph.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise QuantizationError(f"{name} holds NaN or infinity: train the model again, or give other --weights")
    names = [node.name for node in stored_nodes(graph.graph, layers)]
    data = list(batches)
    if not data:
        raise QuantizationError("there are no calibration data; give --data, or some batches of inputs")
    seen = {name: _Seen() for name in names}
    for batch in data:
        for name, value in _values(graph, names, batch).items():
            low, high = (float(edge) for edge in torch.aminmax(value))
            if not (np.isfinite(low) and np.isfinite(high)):
                raise QuantizationError(
                    f"tensor {name!r} is not finite on the calibration data: look for NaN or infinity in the inputs "
                    "and in the weights of the layers before it"
                )
            seen[name].low, seen[name].high = min(seen[name].low, low), max(seen[name].high, high)
    if observer != "minmax":
        for batch in data:
            for name, value in _values(graph, names, batch).items():
                counts = torch.histc(value.float(), _BINS, seen[name].low, seen[name].high or 1.0).numpy()
                seen[name].counts = counts if seen[name].counts is None else seen[name].counts + counts
    return {name: _chosen(each, observer) for name, each in seen.items()}


def _values(graph: fx.GraphModule, names: Collection[str], batch: torch.Tensor) -> Mapping[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}

    class _Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n.name in names:
                found[n.name] = result.clone()  # what comes after may change it in place
            return result

    with torch.no_grad():
        _Watch(graph).run(batch)
    return found


def _chosen(seen: _Seen, observer: Observer) -> StoredAs:
    low, high = seen.low, seen.high
    if low == high == 0.0:
        return StoredAs(scale=1.0, zero_point=0)  # constant zero: any scale is right
    if observer == "minmax" or seen.counts is None:
        return _stored(low, high)
    centres = low + (np.arange(_BINS) + 0.5) * (high - low) / _BINS
    if observer == "percentile":
        share = np.cumsum(seen.counts) / seen.counts.sum()
        return _stored(*(centres[np.searchsorted(share, edge)] for edge in (_OUTSIDE, 1 - _OUTSIDE)))
    counts, candidates = seen.counts, [_stored(part * low, part * high) for part in _PARTS]
    return min(candidates, key=lambda how: _error(how, centres, counts))


def _stored(low: float, high: float) -> StoredAs:
    """Return the format whose integers cover low..high, 0 among them exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / MOST))
    return StoredAs(scale=scale, zero_point=int(np.clip(round(-low / scale), 0, MOST)))


def _error(how: StoredAs, values: np.ndarray, counts: np.ndarray) -> float:
    integers = np.clip(np.floor(values / how.scale + how.zero_point + 0.5), 0, MOST)
    return float(np.sum(counts * ((integers - how.zero_point) * how.scale - values) ** 2))
