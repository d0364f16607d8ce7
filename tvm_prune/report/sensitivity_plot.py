"""A picture of what number formats cost, layer by layer."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tvm_prune.files import write_atomically
from tvm_prune.report.plots import BARS
from tvm_prune.search.sensitivity import Sensitivity

__all__ = ["plot_sensitivities"]

# Nats below which nothing can be told from rounding in the sums.
_LEAST = 1e-7


def plot_sensitivities(path: Path, found: Sequence[Sensitivity]) -> None:
    """Draw the KL divergence (log scale) of each layer's formats, in the order of the layers."""
    layers = list(dict.fromkeys(each.layer for each in found))
    formats = list(dict.fromkeys(each.format for each in found))
    figure = Figure(figsize=(7.5, max(2.5, 0.9 + 0.24 * len(layers))), layout="constrained")
    axes = figure.add_subplot()
    for number, name in enumerate(formats):
        own = {each.layer: max(each.kl, _LEAST) for each in found if each.format == name}
        rows = [layers.index(layer) for layer in own]
        axes.plot(list(own.values()), rows, linestyle="none", marker="o", color=BARS[number % len(BARS)], label=name)
    axes.set_xscale("log")
    axes.set_yticks(range(len(layers)), layers)
    axes.invert_yaxis()
    axes.grid(axis="both", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("KL divergence from the float32 network, this layer alone rounded (nats)")
    images = found[0].total if found else 0
    axes.set_title(f"Sensitivity of layers to number formats ({images} validation images)", fontsize=11)
    if formats:
        axes.legend(loc="best", frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, buffer.getvalue())
