"""Whether planes of bits can be the fastest way to compute a layer on a target: measured, never looked up.

The rival is the same convolution in int8, which holds any precision of up to seven bits as well: with a dot product
instruction it takes 8 instructions of 512 bits for 512 products. Planes take three (AND, count, add) for each pair of
planes, and there are w x a pairs: with as many of each started in a cycle they would win up to w x a = 2. A core that
starts two ANDs and additions for each dot product raises that, to 5 at most with two counts as well; packing lowers it,
and weights that come from far raise it: planes of w bits are w / 8 of the bytes. So programs are timed, not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from tvm_prune.codec import STRICT
from tvm_prune.compress.calibrate import observe
from tvm_prune.compress.quantize import with_precision
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.scheme import INT8
from tvm_prune.oracle.bit_conv import BitConv, WordForm
from tvm_prune.oracle.bit_forms import bit_serial_kernel, packing_kernel, word_forms
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.cost import Failure, Ratio
from tvm_prune.oracle.records import Record
from tvm_prune.oracle.tasks import Kernel
from tvm_prune.oracle.timing import median_and_spread, paired_ratio
from tvm_prune.oracle.tuner import Group

__all__ = ["BitVerdict", "Timed", "bit_verdict"]


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Seconds of one program: the median, the distance of its 10th and 90th percentile, and what the program is."""

    median_s: float
    spread_s: float
    program: str
    __pydantic_config__ = STRICT

    @classmethod
    def of(cls, seconds: Sequence[float], record: Record) -> "Timed":
        """Return what the rounds of one program come to."""
        median, spread = median_and_spread(seconds)
        return cls(median_s=median, spread_s=spread, program=record.program.name)


@dataclass(frozen=True, kw_only=True)
class BitVerdict:
    """The fastest programs of one convolution in planes of bits (packing included), int8 and float32, in turns.

    `packing` is packing alone, in the same words. `over_int8` and `over_float` are the planes' time over the other's,
    paired round by round.
    """

    conv: BitConv
    target: str
    words: WordForm
    bit_serial: Timed
    packing: Timed
    int8: Timed
    float32: Timed
    over_int8: Ratio
    over_float: Ratio
    __pydantic_config__ = STRICT

    @property
    def pays(self) -> bool:
        """Whether planes of bits are the fastest of the three beyond doubt."""
        return self.over_int8.clears(1.0) and self.over_float.clears(1.0)


def bit_verdict(conv: BitConv, oracle: CompilerOracle, *, rounds: int = 31) -> BitVerdict | Failure:
    """Tune `conv` in planes of bits, int8 and float32 on the oracle's target and time the fastest of each in turns.

    What was tuned before is on record. A Failure says which of them cannot be built or run.
    """
    kernels = {form: bit_serial_kernel(conv, form, oracle.target) for form in word_forms(conv, oracle.target)}
    groups = [Group(tuple(kernels.values())), *(_group(model, oracle) for model in _rivals(conv))]
    found: list[tuple[Kernel, Record]] = []
    for fastest in oracle.fastest(groups):
        if isinstance(fastest, Failure):
            return fastest
        found.append(fastest)
    planes, int8, float32 = found
    words = next(form for form, kernel in kernels.items() if kernel.key == planes[0].key)
    (packing,) = oracle.fastest([Group((packing_kernel(conv, words, oracle.target),))])
    if isinstance(packing, Failure):
        return packing
    entries = [planes, packing, int8, float32]
    times = oracle.race(entries, rounds=rounds)
    if isinstance(times, Failure):
        return times
    timed = [Timed.of(seconds, record) for seconds, (_, record) in zip(times, entries, strict=True)]
    return BitVerdict(
        conv=conv,
        target=str(oracle.target),
        words=words,
        bit_serial=timed[0],
        packing=timed[1],
        int8=timed[2],
        float32=timed[3],
        over_int8=paired_ratio(times[2], times[0]),
        over_float=paired_ratio(times[3], times[0]),
    )


def _rivals(conv: BitConv) -> tuple[CompressedModel, CompressedModel]:
    """Return the convolution as a model of one layer, in int8 and in float32; weights do not change its time."""
    layer = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel, conv.stride, conv.padding)
    image = torch.randn(
        conv.batch, conv.in_channels, conv.height, conv.width, generator=torch.Generator().manual_seed(0)
    )
    dense = CompressedModel(module=nn.Sequential(layer).eval(), example_inputs=(image,))
    return with_precision(dense, {"0": INT8}, observe(dense, ["0"], [image], counting=False), observer="minmax"), dense


def _group(model: CompressedModel, oracle: CompilerOracle) -> Group:
    """Return the kernels that compute the only layer of `model`, its weight in every form."""
    graph = oracle.tasks(model)
    (task,) = [task for task in graph.tasks if task.layers]
    variants = graph.variants[task.hash]
    hopeless = frozenset(variant.kernel.key for variant in variants if not variant.pays)
    return Group(tuple(variant.kernel for variant in variants), hopeless=hopeless)
