"""Calibration: which range of each stored tensor its integers are spread over, from what it holds on real data.

Two passes: the first finds the least and greatest value, the second counts values in 2048 bins between them. An
observer then chooses the range:

    minmax      all of it
    percentile  what is left without the outermost 0.001 % on either side
    mse         the part of it whose rounding and clipping errors have the least mean square
    entropy     the part of it with the least divergence (Kullback and Leibler) of the rounded values' distribution from
                that of the values (Migacz 2017, "8-bit inference with TensorRT")

What was seen serves any number of bits. Of fixed point the range is given by its format, not by the data.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import fx

from tvm_prune.errors import QuantizationError
from tvm_prune.graph.compressed import CompressedModel, StoredAs
from tvm_prune.graph.scheme import INT8, Scheme
from tvm_prune.graph.stored_tensors import stored_nodes, stored_schemes, traced_graph

__all__ = ["Observer", "Seen", "calibrate", "observe", "ranges"]

Observer = Literal["minmax", "percentile", "mse", "entropy"]

_BINS = 2048
_OUTSIDE = 1e-5
# Parts of the range that are tried.
_PARTS = np.linspace(0.05, 1.0, 96)


@dataclass
class Seen:
    """What a tensor held: its least and greatest value, 0 among them, and how often a bin between them was hit."""

    low: float = 0.0
    high: float = 0.0
    counts: np.ndarray | None = None


def calibrate(
    model: CompressedModel, batches: Iterable[torch.Tensor], *, observer: Observer = "mse"
) -> dict[str, StoredAs]:
    """Return how the tensors that the integer layers of `model` read are stored, by node name; raises as `observe`."""
    seen = observe(model, model.integer_layers, batches, counting=observer != "minmax")
    return ranges(model, seen, observer=observer)


def observe(
    model: CompressedModel, layers: Collection[str], batches: Iterable[torch.Tensor], *, counting: bool = True
) -> dict[str, Seen]:
    """Return what the tensors hold that are stored if `layers` compute with integers, by node name.

    `batches` are inputs of the model, any number in each, gone through twice; once without `counting`, which the
    observer minmax does not need. Raises QuantizationError for none, and for weights or a tensor with values that are
    not finite.
    """
    graph = traced_graph(model, any_batch=True)
    for name, parameter in graph.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise QuantizationError(f"{name} holds NaN or infinity: train the model again, or give other --weights")
    names = [node.name for node in stored_nodes(graph.graph, layers)]
    data = list(batches)
    if not data:
        raise QuantizationError("there are no calibration data; give --data, or some batches of inputs")
    seen = {name: Seen() for name in names}
    for batch in data:
        for name, value in _values(graph, names, batch).items():
            low, high = (float(edge) for edge in torch.aminmax(value))
            if not (np.isfinite(low) and np.isfinite(high)):
                raise QuantizationError(
                    f"tensor {name!r} is not finite on the calibration data: look for NaN or infinity in the inputs "
                    "and in the weights of the layers before it"
                )
            seen[name].low, seen[name].high = min(seen[name].low, low), max(seen[name].high, high)
    for batch in data if counting else ():
        for name, value in _values(graph, names, batch).items():
            counts = torch.histc(value.float(), _BINS, seen[name].low, seen[name].high or 1.0).numpy()
            seen[name].counts = counts if seen[name].counts is None else seen[name].counts + counts
    return seen


def ranges(model: CompressedModel, seen: Mapping[str, Seen], *, observer: Observer = "mse") -> dict[str, StoredAs]:
    """Return how the tensors that the integer layers of `model` read are stored, by node name.

    `seen` is what `observe` returned for those layers at least.
    """
    schemes = stored_schemes(traced_graph(model).graph, model.precision)
    return {name: _chosen(seen[name], observer, scheme) for name, scheme in schemes.items()}


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


def _chosen(seen: Seen, observer: Observer, scheme: Scheme = INT8) -> StoredAs:
    low, high, most = seen.low, seen.high, 2**scheme.activation_bits - 1
    if scheme.fraction_bits is not None:
        return StoredAs(scale=2.0**-scheme.fraction_bits, zero_point=(most + 1) // 2, most=most)
    if low == high == 0.0:
        return StoredAs(scale=1.0, zero_point=0, most=most)  # constant zero: any scale is right
    if observer == "minmax" or seen.counts is None:
        return _stored(low, high, most)
    centres = low + (np.arange(_BINS) + 0.5) * (high - low) / _BINS
    if observer == "percentile":
        share = np.cumsum(seen.counts) / seen.counts.sum()
        low, high = (float(centres[np.searchsorted(share, edge)]) for edge in (_OUTSIDE, 1 - _OUTSIDE))
        return _stored(low, high, most)
    counts, candidates = seen.counts, [_stored(part * low, part * high, most) for part in _PARTS]
    loss = _divergence if observer == "entropy" else _error
    return min(candidates, key=lambda how: loss(how, centres, counts))


def _stored(low: float, high: float, most: int) -> StoredAs:
    """Return the format whose integers cover low..high, 0 among them exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / most))
    return StoredAs(scale=scale, zero_point=int(np.clip(round(-low / scale), 0, most)), most=most)


def _error(how: StoredAs, values: np.ndarray, counts: np.ndarray) -> float:
    integers = np.clip(np.floor(values / how.scale + how.zero_point + 0.5), 0, how.most)
    return float(np.sum(counts * ((integers - how.zero_point) * how.scale - values) ** 2))


def _divergence(how: StoredAs, values: np.ndarray, counts: np.ndarray) -> float:
    """Return the divergence of what is left of the counts after rounding from the counts; `values` ascend."""
    steps = np.floor(values / how.scale + how.zero_point + 0.5).astype(np.int64)
    # Zeros, of which a relu leaves many, are stored exactly: they must not count as spread over their neighbours.
    counts = np.where(np.arange(values.size) == np.abs(values).argmin(), 0, counts)
    inside = np.flatnonzero((steps >= 0) & (steps <= how.most) & (counts > 0))
    if inside.size == 0:
        return float("inf")
    steps, kept = steps[inside], counts[inside]
    # An integer tells nothing about which of its bins was hit: they share what fell into all of them.
    rounded = np.bincount(steps, kept)[steps] / np.bincount(steps)[steps]
    clipped = kept.copy()
    clipped[0] += counts[: inside[0]].sum()
    clipped[-1] += counts[inside[-1] + 1 :].sum()
    share = clipped / clipped.sum()
    return float(np.sum(share * np.log(share / (rounded / rounded.sum()))))
