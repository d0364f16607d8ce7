"""What a network costs with any set of its layers in float32, the rest in integers: a table that adds up.

A layer's price holds the casts at its borders, and these are gone where its neighbour is in float32 too. So the oracle
is asked for the network in integers, with each layer alone in float32, and with each two neighbours in float32; what
the two have less than their sum is what their common border costs. Formats of other bits run the same programs.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from tvm_prune.codec import STRICT
from tvm_prune.errors import ModelError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.stored_tensors import origin_of, stored_nodes, traced_graph, weighted_nodes
from tvm_prune.oracle.base import CostOracle
from tvm_prune.oracle.cost import Failure

__all__ = ["FormatPrices", "Neighbours", "neighbours", "price_formats", "prices", "without"]


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Two layers with one tensor between them, and the seconds that both in float32 save beside each alone."""

    first: str
    second: str
    saved_s: float
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class FormatPrices:
    """Seconds of the network in integers, in float32, and what each layer in float32 adds to the first.

    `floats_s` is what the oracle says, and not what adds up: `error_s` is how far the two are apart.
    """

    integers_s: float
    floats_s: float
    added_s: dict[str, float]
    neighbours: tuple[Neighbours, ...]
    __pydantic_config__ = STRICT

    @property
    def error_s(self) -> float:
        """What the table says too much for the network in float32, where nothing of what was asked for is left."""
        return self.latency_s(self.added_s) - self.floats_s

    def latency_s(self, floats: Collection[str]) -> float:
        """Return the seconds that the network is expected to take with the layers `floats` in float32."""
        added = sum(seconds for layer, seconds in self.added_s.items() if layer in floats)
        saved = sum(pair.saved_s for pair in self.neighbours if pair.first in floats and pair.second in floats)
        return self.integers_s + added - saved


def neighbours(model: CompressedModel) -> list[tuple[str, str]]:
    """Return the pairs of integer layers of `model` of which the second reads what the first makes."""
    graph = traced_graph(model).graph
    layers = model.integer_layers
    stored = set(stored_nodes(graph, layers))
    layer_of = {node: layer for node, layer in weighted_nodes(graph) if layer in layers}
    found: dict[tuple[str, str], None] = {}
    for node, layer in layer_of.items():
        origin = origin_of(node.args[0])
        waiting = [origin] if origin in layer_of else list(origin.all_input_nodes)
        while waiting:
            source = waiting.pop()
            if source in layer_of:
                found[layer_of[source], layer] = None
            elif source not in stored:
                waiting.extend(source.all_input_nodes)
    return [pair for pair in found if pair[0] != pair[1]]


def price_formats(model: CompressedModel, oracle: CostOracle) -> FormatPrices:
    """Return the prices of `model`, all of whose layers that can be are in integers.

    Raises ModelError if it cannot be priced.
    """
    layers, pairs = model.integer_layers, neighbours(model)
    sets = [[], layers, *([layer] for layer in layers), *(list(pair) for pair in pairs)]
    integers_s, floats_s, *rest = prices([without(model, floats) for floats in sets], oracle)
    added_s = {layer: seconds - integers_s for layer, seconds in zip(layers, rest, strict=False)}
    both = (
        Neighbours(first=first, second=second, saved_s=added_s[first] + added_s[second] - (seconds - integers_s))
        for (first, second), seconds in zip(pairs, rest[len(layers) :], strict=True)
    )
    return FormatPrices(integers_s=integers_s, floats_s=floats_s, added_s=added_s, neighbours=tuple(both))


def without(model: CompressedModel, layers: Sequence[str]) -> CompressedModel:
    """Return `model` with `layers` in float32."""
    precision = {layer: scheme for layer, scheme in model.precision.items() if layer not in layers}
    return replace(model, precision=precision, stored=model.stored if precision else {})


def prices(models: Sequence[CompressedModel], oracle: CostOracle) -> list[float]:
    """Return the expected seconds of each model. Raises ModelError for one that cannot be priced."""
    found = []
    for cost in oracle.estimate(models):
        if isinstance(cost, Failure):
            raise ModelError(f"a precision cannot be priced; it fails at the stage {cost.stage!r}: {cost.message}")
        found.append(cost.latency_s)
    return found
