"""Prices from records, and from the predictor where there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest

from relay_passes.weight_form import PLAIN, WeightForm
from tvm_prune.errors import RecordsError
from tvm_prune.oracle import pricing
from tvm_prune.oracle.predictor import Prediction
from tvm_prune.oracle.pricing import Pricing
from tvm_prune.oracle.program import Program, Task
from tvm_prune.oracle.records import Record, Records
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel, TaskGraph, Variant

TARGET = Target(threads=1, vector_bits=128)


@dataclass
class Known:
    """Records of kernels by key: seconds of their fastest program."""

    seconds: dict[str, float]

    def best(self, key: str) -> Record | None:
        if key not in self.seconds:
            return None
        made = Program(
            space="s", space_version=1, variant="", axes={}, lanes=1, parallel=1, latency_s=self.seconds[key]
        )
        return Record(made, None, 1)

    def programs(self, key: str) -> list[Program]:
        record = self.best(key)
        return [] if record is None else [record.program]

    def __len__(self) -> int:
        return len(self.seconds)


class Shapes:
    """Every kernel's key stands for its shape."""

    def __init__(self, records: Known) -> None:
        self.records = records

    def of(self, kernel: Kernel) -> str:
        return kernel.key

    def recorded(self) -> list[tuple[str, str]]:
        return [(key, key) for key in self.records.seconds]


class Thirds:
    """A predictor that knows the kernels b (3 s), b_padded (2 s) and hopeless (1 s), each give or take a part."""

    fits = 0

    @classmethod
    def fit(cls, records: Sequence[Any], target: Target) -> "Thirds":
        if len(records) < 2:
            raise RecordsError("too few")
        cls.fits += 1
        return cls()

    def price(self, shape: str) -> Prediction:
        seconds = {"b": 3.0, "b_padded": 2.0, "hopeless": 1.0}[shape]
        return Prediction(latency_s=seconds, low_s=seconds - 0.3, high_s=seconds + 0.5)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricing, "KernelShapes", Shapes)
    monkeypatch.setattr(pricing, "Predictor", Thirds)
    monkeypatch.setattr(Thirds, "fits", 0)


def graph(**tasks: tuple[int, Sequence[str]]) -> TaskGraph:
    """Return tasks by name: how often each is called, and its kernels beside the plain one."""

    def variants(name: str, others: Sequence[str]) -> tuple[Variant, ...]:
        plain = Variant(PLAIN, Kernel(name, None), pays="hopeless" not in name)
        return (plain, *(Variant(WeightForm(8), Kernel(other, None)) for other in others))

    return TaskGraph(
        tasks=tuple(
            Task(hash=name, kind="conv2d", shape="", weight=weight, layers=(name,), macs=1)
            for name, (weight, _) in tasks.items()
        ),
        variants={name: variants(name, others) for name, (_, others) in tasks.items()},
        calls=(),
        weight_names={},
    )


def priced(seconds: dict[str, float]) -> Pricing:
    return Pricing(cast(Records, Known(seconds)), TARGET)


def test_what_is_on_record_is_summed() -> None:
    price = priced({"a": 5.0, "a_padded": 4.0}).price(graph(a=(2, ["a_padded"])))
    assert (price.latency_s, price.spread_s, price.source) == (8.0, 0.0, "summed")


def test_tasks_without_a_record_are_predicted_as_their_fastest_form() -> None:
    price = priced({"a": 5.0, "c": 1.0}).price(graph(a=(1, []), b=(3, ["b_padded"])))
    assert (price.latency_s, price.source) == (5.0 + 3 * 2.0, "predicted")
    assert price.spread_s == pytest.approx(3 * 0.4)


def test_forms_that_can_hardly_win_are_not_asked_about() -> None:
    price = priced({"a": 5.0, "c": 1.0}).price(graph(hopeless=(1, ["b"])))
    assert price.latency_s == 3.0


def test_it_learns_again_once_there_is_more_to_learn_from() -> None:
    known = {f"k{number}": 1.0 for number in range(20)}
    made = priced(known)
    assert made.ready
    assert made.ready
    assert Thirds.fits == 1
    known.update({f"more{number}": 1.0 for number in range(5)})
    assert made.ready
    assert Thirds.fits == 2


def test_with_too_few_records_it_is_not_ready() -> None:
    made = priced({"a": 1.0})
    assert not made.ready
    with pytest.raises(RecordsError, match="too few"):
        made.price(graph(b=(1, [])))
