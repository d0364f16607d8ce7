"""Which layers of an integer network should have stayed in float32: those that make the whole faster so.

A layer's integers are not priced by themselves: what it reads has to be rounded, and what it gives may have to become a
float again, in kernels of its neighbours. So the whole network is priced with one layer in float32 at a time, all
together, and the layers that pay are left out.
"""

from dataclasses import dataclass

from tvm_prune.codec import STRICT
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.base import CostOracle
from tvm_prune.search.format_prices import prices, without

__all__ = ["LayerPrice", "Mixed", "mixed_precision"]

# Sums of programs are not known better than that.
_GAIN = 0.01


@dataclass(frozen=True, kw_only=True)
class LayerPrice:
    """Seconds that the whole network is expected to take with this one layer in float32."""

    layer: str
    float_s: float
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """The network, the seconds it is expected to take, those of all integers and of none, and each layer's price."""

    model: CompressedModel
    latency_s: float
    integers_s: float
    floats_s: float
    prices: tuple[LayerPrice, ...]


def mixed_precision(model: CompressedModel, oracle: CostOracle) -> Mixed:
    """Return `model` with those of its integer layers in float32 that make it at least 1 % faster.

    It is never expected to be slower than with integers alone or with none. Raises ModelError if it cannot be priced.
    """
    layers = model.integer_layers
    variants = [model, without(model, layers), *(without(model, [layer]) for layer in layers)]
    integers_s, floats_s, *each_s = prices(variants, oracle)
    each = tuple(LayerPrice(layer=layer, float_s=price) for layer, price in zip(layers, each_s, strict=True))
    slow = [price.layer for price in each if price.float_s < (1 - _GAIN) * integers_s]
    candidates = [(integers_s, model), (floats_s, without(model, layers))]
    if slow:
        together = without(model, slow)
        (together_s,) = prices([together], oracle)
        candidates.append((together_s, together))
        best = min(each, key=lambda price: price.float_s)
        candidates.append((best.float_s, without(model, [best.layer])))
    latency_s, chosen = min(candidates, key=lambda candidate: candidate[0])
    return Mixed(model=chosen, latency_s=latency_s, integers_s=integers_s, floats_s=floats_s, prices=each)
