"""Task and program: what the compiler has to run, and the fastest schedule known for it."""

from dataclasses import dataclass

from tvm_prune.codec import STRICT

__all__ = ["Axis", "Program", "Task"]

_ROLES = ("out_c", "h", "w", "in_c")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One loop axis of a program: its extent, the extent it is padded to, its tile factors from outer to inner."""

    extent: int
    padded_extent: int
    factors: tuple[int, ...]
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Program:
    """The fastest schedule known for a task.

    `axes` maps a role (out_c, in_c, h, w) to its tiling; `lanes` is the SIMD width in elements; `parallel` the number
    of parallel work items (1 = serial); `variant` how the space built it (direct, pad_fused, serial ...); `latency_s`
    is isolated: the kernel alone, its weights as far away as in a network.
    """

    space: str
    space_version: int
    variant: str
    axes: dict[str, Axis]
    lanes: int
    parallel: int
    latency_s: float
    __pydantic_config__ = STRICT

    @property
    def name(self) -> str:
        """What tells this program from the others of its kernel; kernels alike but for the epilogue share names."""
        return f"{self.space} {self.space_version}: {self.variant}, {self.tiles()}"

    def tiles(self) -> str:
        """Return the tiling as one short text, e.g. ``out_c 2x16, w 4x8, in_c 16``."""
        parts = []
        for role in sorted(self.axes, key=_ROLES.index):
            axis = self.axes[role]
            text = f"{role} {'x'.join(str(factor) for factor in axis.factors)}"
            if axis.padded_extent != axis.extent:
                text += f" (pads {axis.extent})"
            parts.append(text)
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One distinct tensor program to tune.

    `hash` is the structural hash of the subgraph, `kind` conv2d | depthwise | dense | other, `shape` a short summary,
    `weight` how many subgraphs share it, `layers` the dotted names of the layers it computes (empty for pooling and the
    like), `macs` the multiply-accumulates of ONE subgraph.
    """

    hash: str
    kind: str
    shape: str
    weight: int
    layers: tuple[str, ...]
    macs: int
    __pydantic_config__ = STRICT
