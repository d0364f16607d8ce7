"""A depthwise convolution and the pointwise one behind it: does one kernel for both beat two?

    python -m benchmarks.depthwise_fusion --json FILE

Both ways have the same loops, register tiles and packed weights. As one kernel, each thread computes a row (or two) of
the depthwise result right before the pointwise tiles that read it, so it never leaves the cache; as two, it goes
through memory. Every way is tuned over a few tile sizes by itself; then the fastest of each take turns. The shapes are
those of MobileNetV2 at 224 pixels.
"""

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.document import Document, markdown_table
from tvm_prune.lock import machine_lock
from tvm_prune.oracle.target import Target

_LANES = 16
COLUMNS = {
    "shape": "",
    "depthwise_us": ".1f",
    "pointwise_us": ".1f",
    "fused_us": ".1f",
    "ratio": ".2f",
    "ratio_p10": ".2f",
    "ratio_p90": ".2f",
}


@dataclass(frozen=True)
class _Shape:
    """A square image, the channels of the depthwise convolution and those that the pointwise one stores."""

    size: int
    channels: int
    stored: int

    def __str__(self) -> str:
        return f"{self.size}x{self.size}x{self.channels} -> {self.stored}"


SHAPES = (_Shape(112, 32, 16), _Shape(56, 144, 32), _Shape(28, 192, 32), _Shape(14, 384, 64), _Shape(14, 576, 96))


@dataclass(frozen=True)
class _Tiles:
    """Pixels of a depthwise tile, pixels and vectors of a pointwise one, depthwise rows that are computed at a time."""

    narrow: int
    wide: int
    vectors: int
    rows: int

    @staticmethod
    def every(shape: _Shape, part: str) -> Iterator["_Tiles"]:
        """Yield those that divide `shape`, without the choices that a part of the work does not have."""
        narrow = (2, 4, 7) if part != "pointwise" else (7,)
        wide, vectors = ((7, 14), (1, 2)) if part != "depthwise" else ((7,), (1,))
        for each in itertools.product(narrow, wide, vectors, (1, 2) if part == "fused" else (1,)):
            tiles = _Tiles(*each)
            if not (shape.size % tiles.narrow or shape.size % tiles.wide or shape.stored // _LANES % tiles.vectors):
                yield tiles


def _function(shape: _Shape, part: str) -> Any:
    from tvm import te

    size, channels, stored = shape.size, shape.channels, shape.stored
    image = (1, size, size, channels)
    data = te.placeholder(image, name="data")
    filters, shift = te.placeholder((3, 3, channels), name="filters"), te.placeholder((channels,), name="shift")
    weight, bias = te.placeholder((stored // _LANES, channels, _LANES), name="w"), te.placeholder((stored,), name="b")

    def depthwise(source: Any) -> Any:
        padded = te.compute(
            (1, size + 2, size + 2, channels),
            lambda n, h, w, c: te.if_then_else(
                te.all(h >= 1, h <= size, w >= 1, w <= size), source[n, h - 1, w - 1, c], 0.0
            ),
            name="pad",
        )
        down, across = te.reduce_axis((0, 3)), te.reduce_axis((0, 3))
        products = te.compute(
            image,
            lambda n, h, w, c: te.sum(padded[n, h + down, w + across, c] * filters[down, across, c], [down, across]),
            name="depthwise",
        )
        return te.compute(
            image, lambda n, h, w, c: te.min(te.max(products[n, h, w, c] + shift[c], 0.0), 6.0), name="clipped"
        )

    def pointwise(source: Any) -> Any:
        depth = te.reduce_axis((0, channels))
        products = te.compute(
            (1, size, size, stored),
            lambda n, h, w, k: te.sum(source[n, h, w, depth] * weight[k // _LANES, depth, k % _LANES], depth),
            name="pointwise",
        )
        return te.compute((1, size, size, stored), lambda n, h, w, k: products[n, h, w, k] + bias[k], name="out")

    if part == "depthwise":
        return te.create_prim_func([data, filters, shift, depthwise(data)])
    if part == "pointwise":
        return te.create_prim_func([data, weight, bias, pointwise(data)])
    return te.create_prim_func([data, filters, shift, weight, bias, pointwise(depthwise(data))])


def _tile_depthwise(schedule: Any, tiles: _Tiles) -> None:
    """Put a register tile of pixels x one vector into the two inner loops of the depthwise result."""
    clipped, products = schedule.get_sblock("clipped"), schedule.get_sblock("depthwise")
    schedule.compute_inline(schedule.get_sblock("pad"))
    *_, width, channels = schedule.get_loops(clipped)
    across, pixel = schedule.split(width, [None, tiles.narrow])
    vector, lane = schedule.split(channels, [None, _LANES])
    schedule.reorder(across, vector, pixel, lane)
    schedule.vectorize(lane)
    schedule.unroll(pixel)
    schedule.compute_at(products, vector)
    *_, pixel, lane, row, column = schedule.get_loops(products)
    schedule.reorder(row, column, pixel, lane)
    schedule.vectorize(lane)
    for loop in (pixel, row, column):
        schedule.unroll(loop)
    *_, pixel, lane = schedule.get_loops(schedule.decompose_reduction(products, row))
    schedule.vectorize(lane)
    schedule.unroll(pixel)
    schedule.set_scope(products, 0, "local")


def _tile_pointwise(schedule: Any, tiles: _Tiles, threads: int) -> Any:
    """Give each thread a band of rows and tiles of pixels x vectors in it; return the loop over a band's rows."""
    out, products = schedule.get_sblock("out"), schedule.get_sblock("pointwise")
    batch, height, width, stored = schedule.get_loops(out)
    band, row = schedule.split(height, [threads, None])
    across, pixel = schedule.split(width, [None, tiles.wide])
    chunk, vector, lane = schedule.split(stored, [None, tiles.vectors, _LANES])
    schedule.reorder(batch, band, row, across, chunk, pixel, vector, lane)
    schedule.parallel(band)
    schedule.vectorize(lane)
    schedule.unroll(vector)
    schedule.unroll(pixel)
    schedule.compute_at(products, chunk)
    *_, pixel, stored, depth = schedule.get_loops(products)
    vector, lane = schedule.split(stored, [tiles.vectors, _LANES])
    schedule.reorder(depth, pixel, vector, lane)
    schedule.vectorize(lane)
    schedule.unroll(pixel)
    schedule.unroll(vector)
    *_, pixel, stored = schedule.get_loops(schedule.decompose_reduction(products, depth))
    vector, lane = schedule.split(stored, [tiles.vectors, _LANES])
    schedule.vectorize(lane)
    schedule.unroll(vector)
    schedule.unroll(pixel)
    schedule.set_scope(products, 0, "local")
    return row


def _scheduled(shape: _Shape, part: str, tiles: _Tiles, threads: int) -> Any:
    from tvm.s_tir import Schedule

    schedule = Schedule(_function(shape, part))
    if part == "depthwise":
        clipped = schedule.get_sblock("clipped")
        _, height, *_ = schedule.get_loops(clipped)
        schedule.parallel(schedule.split(height, [threads, None])[0])
        _tile_depthwise(schedule, tiles)
        return schedule.mod
    row = _tile_pointwise(schedule, tiles, threads)
    if part == "fused":
        if tiles.rows > 1:
            row, _ = schedule.split(row, [None, tiles.rows])
        schedule.compute_at(schedule.get_sblock("clipped"), row)
        _tile_depthwise(schedule, tiles)
    return schedule.mod


def _block(target: Target, module: Any, values: list[Any]) -> Callable[[], float]:
    """Compile; return a function that times some calls and returns the seconds of the quick ones."""
    import tvm

    with tvm.transform.PassContext(config={"tirx.disable_assert": True}):
        library = tvm.compile(module, target=target.to_tvm()).mod
    evaluate = library.time_evaluator("main", tvm.cpu(), number=3, repeat=8)
    return lambda: sorted(evaluate(*values).results)[2]


def _row(target: Target, shape: _Shape, rounds: int) -> dict[str, Any]:
    import tvm

    generator, size, channels, stored = np.random.default_rng(0), shape.size, shape.channels, shape.stored
    data, filters, shift, weight, bias, between, result = (
        tvm.runtime.tensor(generator.standard_normal(extents).astype("float32"))
        for extents in (
            (1, size, size, channels),
            (3, 3, channels),
            (channels,),
            (stored // _LANES, channels, _LANES),
            (stored,),
            (1, size, size, channels),
            (1, size, size, stored),
        )
    )
    values = {
        "depthwise": [data, filters, shift, between],
        "pointwise": [between, weight, bias, result],
        "fused": [data, filters, shift, weight, bias, result],
    }
    best: dict[str, Callable[[], float]] = {}
    results = {}
    for part, buffers in values.items():
        blocks = [
            _block(target, _scheduled(shape, part, tiles, target.threads), buffers)
            for tiles in _Tiles.every(shape, part)
        ]
        best[part] = min(blocks, key=lambda block: statistics.median(block() for _ in range(3)))
        results[part] = result.numpy().copy()
    np.testing.assert_allclose(results["fused"], results["pointwise"], rtol=1e-4, atol=1e-4)
    taken: dict[str, list[float]] = {part: [] for part in best}
    for _ in range(rounds):
        for part, block in best.items():
            taken[part].append(block())
        time.sleep(0.02)
    pairs = zip(taken["depthwise"], taken["pointwise"], taken["fused"], strict=True)
    low, *_, high = statistics.quantiles(ratios := [(first + second) / both for first, second, both in pairs], n=10)
    return {
        "shape": str(shape),
        **{f"{part}_us": statistics.median(seconds) * 1e6 for part, seconds in taken.items()},
        "ratio": statistics.median(ratios),
        "ratio_p10": low,
        "ratio_p90": high,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = str(arguments.threads)  # before the first launch
    target = Target.local(threads=arguments.threads)
    with machine_lock("measuring"):
        rows = [_row(target, shape, arguments.rounds) for shape in SHAPES]
    if arguments.json is not None:
        Document.of(rows).write(arguments.json)
    print(markdown_table(rows, COLUMNS))


if __name__ == "__main__":
    main()
