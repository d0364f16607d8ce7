"""In which form a kernel holds its weight: how many channels it computes, and how they lie in memory."""

from dataclasses import dataclass
from typing import Literal

from relay_passes.weight_changes import Change, changed_shape

__all__ = ["PLAIN", "Layout", "Planes", "WeightForm"]

Layout = Literal["plain", "packed", "winograd2", "winograd4", "dot", "winograd2_dot", "winograd4_dot", "planes"]


@dataclass(frozen=True)
class Planes:
    """How operands of few bits are split: bits of weights and activations, bits of a word.

    `table` says that the lowest bits of activations are read by a table (relay_passes/bit_serial.py).
    """

    w_bits: int
    a_bits: int
    word: int
    table: bool


@dataclass(frozen=True)
class WeightForm:
    """The form of one filter (HWIO) or matrix (input x output) for its kernel.

    `channels` are the output channels computed (None = as many as are stored), the rest zeros. `lanes` is 0 for the
    plain layout. `layout` is

        plain       as it is
        packed      vectors of `lanes` output channels, each one stream of memory
        winograd2, winograd4  the filter of F(2x2, 3x3) / F(4x4, 3x3), packed as well
        dot         filters of integers, packed: of every output channel four input channels beside each other, as
                    instructions for dot products of bytes take them; inputs are filled up with zeros
        winograd2_dot, winograd4_dot  the filter of F(2x2, 3x3) / F(4x4, 3x3) in whole numbers of 16 bits, of which
                    instructions for dot products take two
        planes      of integers of few bits: a word for each plane of bits, as `planes` says
    """

    channels: int | None = None
    layout: Layout = "plain"
    lanes: int = 0
    planes: Planes | None = None

    @property
    def tile(self) -> int:
        """Outputs of a Winograd tile in one direction; 0 for a direct kernel."""
        return int(self.layout[len("winograd")]) if self.layout.startswith("winograd") else 0

    @property
    def dot(self) -> bool:
        """Whether the weight lies as instructions for dot products take it."""
        return self.layout.endswith("dot")

    def dtype(self, plain: str) -> str:
        """Return the type of the elements of a weight whose plain form has `plain`."""
        if self.planes is not None:
            return f"uint{self.planes.word}"
        return "int16" if self.tile and self.dot else plain

    def changes(self) -> list[Change]:
        """Return how a weight gets this form."""
        if self.planes is not None:
            return [["pack_planes", [self.planes.w_bits, self.planes.word, self.lanes]]]
        found: list[Change] = []
        if self.channels is not None:
            found.append(["pad_last", self.channels])
        if self.tile:
            found.append(["whole_winograd" if self.dot else "winograd", self.tile])
        if self.dot:
            found.append(["pack_dot_words" if self.tile else "pack_dot", self.lanes])
        elif self.layout != "plain":
            found.append(["pack_last", self.lanes])
        return found

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a weight of `shape` in this form."""
        return changed_shape(shape, self.changes())

    def __str__(self) -> str:
        """Return a few words, such as ``padded to 32 channels, packed by 16``; empty for the plain form."""
        if self.planes is not None:
            bits = f"{self.planes.w_bits}x{self.planes.a_bits}"
            return f"planes of {bits} bits in words of {self.planes.word} by {self.lanes}"
        words = []
        if self.channels is not None:
            words.append(f"padded to {self.channels} channels")
        if self.layout != "plain":
            names = [f"Winograd F({self.tile}x{self.tile})"] if self.tile else []
            names += ["dot products"] if self.dot else [] if self.tile else ["packed"]
            words.append(f"{' in '.join(names)} by {self.lanes}")
        return ", ".join(words)


PLAIN = WeightForm()
