"""Which programs of which kernels carry over to another channel count."""

from typing import Any, cast

import pytest

from tvm_prune.oracle import relatives
from tvm_prune.oracle.program import Axis, Program
from tvm_prune.oracle.records import Record, Records
from tvm_prune.oracle.relatives import Relatives
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.tasks import Kernel


def program(tiles: int, vectors: int, *, in_c: int, rows: int = 1, variant: str = "rows") -> Program:
    axes = {
        "out_c": Axis(extent=tiles * vectors * 8, padded_extent=tiles * vectors * 8, factors=(tiles, vectors, 8)),
        "h": Axis(extent=16, padded_extent=16, factors=(16 // rows, rows)),
        "in_c": Axis(extent=in_c, padded_extent=in_c, factors=(in_c,)),
    }
    return Program(space="conv", space_version=1, variant=variant, axes=axes, lanes=8, parallel=2, latency_s=1.0)


def conv(channels: int, read: int, *, height: int = 16, after: tuple[str, ...] = ()) -> Anatomy:
    extents = (1, height, 16, channels, 3, 3, read)
    return Anatomy("conv2d", (), "conv2d_packed", after, extents, channels, channels, packed=8)


class Fastest:
    """Records that hold one program of some kernels."""

    def __init__(self, programs: dict[str, Program]) -> None:
        self.programs = programs

    def best(self, key: str) -> Record | None:
        return Record(self.programs[key], None, 1) if key in self.programs else None


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function: what kernels of these anatomies and fastest programs make a kernel of 40 channels try."""

    def favourites(*others: tuple[Anatomy, Program | None], own: Anatomy | None = None) -> list[str]:
        anatomies = {str(place): anatomy for place, (anatomy, _) in enumerate(others)}
        anatomies["own"] = own or conv(40, 40)
        monkeypatch.setattr(relatives, "anatomy_of", lambda kernel: anatomies[kernel.key])
        fastest = Fastest({str(place): found for place, (_, found) in enumerate(others) if found is not None})
        points = [program(5, 1, in_c=40, rows=rows, variant=word) for rows in (1, 2, 4) for word in ("rows", "serial")]
        made = Relatives(cast(Records, fastest), lambda kernel: points)
        kernels = [Kernel(key, None) for key in anatomies]
        made.add(kernels)
        return [name.split(": ")[1] for name in made.favourites(kernels[-1])]

    return favourites


def test_a_program_carries_over_but_for_how_often_its_channel_tile_repeats_and_what_it_reads(seen: Any) -> None:
    assert seen((conv(32, 48), program(4, 1, in_c=48, rows=2))) == ["rows, out_c 5x1x8, h 8x2, in_c 40"]


def test_another_tile_has_no_like(seen: Any) -> None:
    assert seen((conv(32, 40), program(2, 2, in_c=40))) == []


def test_the_nearest_counts_come_first_and_a_program_once(seen: Any) -> None:
    found = seen(
        (conv(32, 40), program(4, 1, in_c=40, rows=4)),
        (conv(40, 39), program(5, 1, in_c=39, variant="serial")),
        (conv(40, 38), program(5, 1, in_c=38, variant="serial")),
    )
    assert [name.split(", ")[0::2][0] for name in found] == ["serial", "rows"]


def test_counts_that_are_far_off_say_nothing(seen: Any) -> None:
    assert seen((conv(24, 40), program(3, 1, in_c=40))) == []
    assert seen((conv(32, 32), program(4, 1, in_c=32))) == []


def test_images_of_another_size_are_another_family_and_epilogues_are_not(seen: Any) -> None:
    assert seen((conv(32, 40, height=8), program(4, 1, in_c=40))) == []
    assert len(seen((conv(32, 40, after=("add", "relu")), program(4, 1, in_c=40)))) == 1


def test_kernels_without_a_record_or_without_channels_have_no_say(seen: Any) -> None:
    assert seen((conv(32, 40), None)) == []
    other = Anatomy("other", (), "", (), (), 0, 0)
    assert seen((other, program(4, 1, in_c=40)), own=other) == []
