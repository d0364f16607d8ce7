"""Instructions that multiply bytes of data by bytes of weights and add the products, by processor.

What each is called, how fast it is and which of LLVM's features stand for it; `spaces/dot_product.py` makes code of it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

__all__ = ["ARCHITECTURES", "DotProduct", "available", "kinds"]


@dataclass(frozen=True)
class DotProduct:
    """One kind of instruction.

    `lanes` are the 32-bit sums that it may have, most first; `speed` is how many times as many multiply-accumulates it
    does as an instruction for floats of the same lanes, `word_speed` the same of its sister for words of 16 bits;
    `says` is for people to read.
    """

    kind: str
    lanes: tuple[int, ...]
    speed: float
    word_speed: float
    says: str


@dataclass(frozen=True)
class _Kind:
    """A kind before a processor is known: `needs` are, by lanes, sets of features any one of which suffices."""

    kind: str
    architecture: str
    needs: Mapping[int, tuple[tuple[str, ...], ...]]
    speed: float
    word_speed: float
    says: str


# The fastest first. The speeds of VNNI and of pmaddwd are measured (docs/quantization.md), those of Arm counted: its
# instructions against one fmla for every four products. Those of words are counted.
_KINDS = (
    _Kind(
        "vnni",
        "x86_64",
        {
            16: (("avx512vnni",),),
            8: (("avx512vnni", "avx512vl"), ("avxvnni",)),
            4: (("avx512vnni", "avx512vl"), ("avxvnni",)),
        },
        4.0,
        2.0,
        "vpdpbusd, four products a lane",
    ),
    _Kind(
        "pmaddwd",
        "x86_64",
        {16: (("avx512bw",),), 8: (("avx2",),), 4: (("sse2",),)},
        1.4,
        1.0,
        "pmaddwd, two products a lane",
    ),
    _Kind("usdot", "aarch64", {4: (("i8mm",),)}, 4.0, 1.0, "usdot, four products a lane"),
    _Kind("sdot", "aarch64", {4: (("dotprod",),)}, 2.0, 1.0, "sdot, four products a lane, and one addition"),
    _Kind("smlal", "aarch64", {4: (("neon",),)}, 1.0, 1.0, "smlal, one product a lane"),
)

# Those whose features LLVM may be asked about.
ARCHITECTURES = frozenset(kind.architecture for kind in _KINDS)


def kinds() -> tuple[DotProduct, ...]:
    """Return every kind with all the lanes that it has anywhere."""
    return tuple(DotProduct(kind.kind, tuple(kind.needs), kind.speed, kind.word_speed, kind.says) for kind in _KINDS)


def available(architecture: str, widest: int, has: Callable[[str], bool]) -> Iterator[DotProduct]:
    """Yield what a processor has whose vectors hold `widest` sums at most, the fastest first.

    `architecture` is x86_64, aarch64 or another; `has` says of one of LLVM's features whether the processor has it.
    """
    for kind in _KINDS:
        if kind.architecture != architecture:
            continue
        lanes = tuple(
            lanes
            for lanes, sufficient in kind.needs.items()
            if lanes <= widest and any(all(map(has, features)) for features in sufficient)
        )
        if lanes:
            yield DotProduct(kind.kind, lanes, kind.speed, kind.word_speed, kind.says)
