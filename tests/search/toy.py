"""A network of three groups without any arithmetic: widths decide its latency, lost importance its accuracy."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from tvm_prune.codec import encode
from tvm_prune.compress.step import PruneStep
from tvm_prune.files import write_atomically
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.count import LayerShape
from tvm_prune.oracle.fake import LinearOracle
from tvm_prune.search.budget import Budget
from tvm_prune.search.cprune import CPrune
from tvm_prune.search.journal import Header
from tvm_prune.search.loop import run
from tvm_prune.search.outcome import Outcome
from tvm_prune.search.settings import CPruneSettings
from tvm_prune.search.trial import Accuracy, ScoredGroup, Searcher

WIDTHS = {"stem": 64, "one": 64, "two": 128}
OUTPUTS = {"stem": ("stem", "one.out", "two.out"), "one": ("one",), "two": ("two",)}
INPUTS = {"stem": ("one", "two", "head"), "one": ("one.out",), "two": ("two.out",)}
# Layer -> group of its output and of its input (None = the network's own).
LAYERS: dict[str, tuple[str | None, str | None]] = {
    "stem": ("stem", None),
    "one": ("one", "stem"),
    "one.out": ("stem", "one"),
    "two": ("two", "stem"),
    "two.out": ("stem", "two"),
    "head": (None, "stem"),
}
TOTAL = 100_000


def nothing() -> None:
    """Be the hook that does nothing."""


class Toy(nn.Module):
    """`kept` holds the original units left of each group, `recovered` the part of the damage that training undid."""

    def __init__(self, kept: dict[str, tuple[int, ...]], recovered: float) -> None:
        super().__init__()
        self.kept = kept
        self.recovered = recovered


def toy_of(model: CompressedModel) -> Toy:
    assert isinstance(model.module, Toy)
    return model.module


def model_of(kept: dict[str, tuple[int, ...]], recovered: float = 0.0) -> CompressedModel:
    return CompressedModel(module=Toy(kept, recovered), example_inputs=())


def score(unit: int) -> float:
    """Return the importance of an original unit: three in four matter little."""
    return 4.0 if unit % 4 == 0 else 0.25 + unit / 1000


def shapes(model: CompressedModel) -> list[LayerShape]:
    """Return 3x3 convolutions on 16x16 pixels, and a linear head."""
    widths = {group: len(units) for group, units in toy_of(model).kept.items()}
    found = []
    for name, (out_group, in_group) in LAYERS.items():
        channels_in = widths[in_group] if in_group else 3
        channels_out = widths[out_group] if out_group else 10
        conv = name != "head"
        area = 9 * 256 if conv else 1
        found.append(
            LayerShape(
                name=name,
                kind="conv" if conv else "linear",
                in_channels=channels_in,
                out_channels=channels_out,
                kernel=(3, 3) if conv else (),
                stride=(1, 1) if conv else (),
                groups=1,
                input_hw=(16, 16) if conv else (),
                output_hw=(16, 16) if conv else (),
                macs=channels_in * channels_out * area,
                params=channels_in * channels_out * (9 if conv else 1),
                calls=1,
            )
        )
    return found


def key(model: CompressedModel) -> str:
    return json.dumps({name: len(units) for name, units in toy_of(model).kept.items()})


@dataclass
class ToyWorkbench:
    """Accuracy = 0.95 - `damage` x (share of importance lost)^2, summed over groups; training undoes four fifths.

    `event` is called at the start of each method, so that a test can stop the world there.
    """

    damage: float = 0.2
    recovery: float = 0.8
    event: Callable[[], None] = nothing
    blind: bool = False
    tested: int = 0
    identity: str = "toy"
    steps_per_epoch: int = 10

    def dense(self) -> CompressedModel:
        return model_of({name: tuple(range(width)) for name, width in WIDTHS.items()})

    def build(self, parent: CompressedModel, steps: tuple[PruneStep, ...]) -> CompressedModel:
        self.event()
        kept = dict(toy_of(parent).kept)
        for step in steps:
            assert len(kept[step.group]) == step.width
            kept[step.group] = tuple(kept[step.group][unit] for unit in step.keep)
        return model_of(kept)

    def refit(
        self, model: CompressedModel, parent: CompressedModel, steps: tuple[PruneStep, ...], *, seed: int
    ) -> CompressedModel:
        self.event()
        return model

    def finetune(self, model: CompressedModel, *, steps: int, seed: int, final: bool = False) -> CompressedModel:
        self.event()
        return model_of(toy_of(model).kept, self.recovery - (seed % 1000) * 1e-6)

    def probe(self, model: CompressedModel, parent: CompressedModel, steps: tuple[PruneStep, ...]) -> float | None:
        self.event()
        if self.blind:
            return None
        return round(self.evaluate(parent).fraction - self.evaluate(model).fraction, 6)

    def evaluate(self, model: CompressedModel) -> Accuracy:
        self.event()
        lost = 0.0
        for name, units in toy_of(model).kept.items():
            share = 1 - sum(score(unit) for unit in units) / sum(score(unit) for unit in range(WIDTHS[name]))
            lost += self.damage * share**2
        fraction = max(0.0, 0.95 - lost * (1 - toy_of(model).recovered))
        return Accuracy(correct=round(TOTAL * fraction), total=TOTAL)

    def test(self, model: CompressedModel) -> Accuracy:
        self.tested += 1
        return self.evaluate(model)

    def groups(self, model: CompressedModel) -> tuple[ScoredGroup, ...]:
        self.event()
        found = [
            ScoredGroup(
                name=name,
                width=len(units),
                prunable=True,
                reason="",
                scores=tuple(score(unit) for unit in units),
                outputs=dict.fromkeys(OUTPUTS[name], 1),
                inputs=dict.fromkeys(INPUTS[name], 1),
            )
            for name, units in toy_of(model).kept.items()
        ]
        head = ScoredGroup(
            name="head",
            width=10,
            prunable=False,
            reason="output of the network",
            scores=(1.0,) * 10,
            outputs={"head": 1},
            inputs={},
        )
        return (*found, head)

    def save(self, model: CompressedModel, steps: tuple[PruneStep, ...], stem: Path) -> None:
        self.event()
        toy = toy_of(model)
        content = {"kept": toy.kept, "recovered": toy.recovered, "steps": encode(steps)}
        write_atomically(stem.with_name(f"{stem.name}.safetensors"), json.dumps(content))

    def load(self, steps: tuple[PruneStep, ...], stem: Path) -> CompressedModel:
        self.event()
        content = json.loads(stem.with_name(f"{stem.name}.safetensors").read_text())
        assert content["steps"] == encode(steps)
        return model_of({name: tuple(units) for name, units in content["kept"].items()}, content["recovered"])


@dataclass(kw_only=True)
class ToyOracle(LinearOracle):
    """The linear oracle on toys, with the same hook."""

    event: Callable[[], None] = nothing
    shapes: Callable[[CompressedModel], list[LayerShape]] = field(default=shapes)
    key: Callable[[CompressedModel], str] = field(default=key)

    def _asked(self, method: str, models: object) -> None:
        self.event()
        super()._asked(method, models)  # type: ignore[arg-type]


SETTINGS = CPruneSettings(short_term_steps=5, counts_per_group=2, alpha=0.97, accuracy_drop=0.05)


def header(settings: object = SETTINGS, method: str = "cprune") -> Header:
    return Header(
        method=method,
        settings=encode(settings),
        seed=0,
        model="toy",
        data="none",
        target="linear",
        packages={"tvm_prune": "0"},
    )


def search(
    run_dir: Path,
    *,
    settings: CPruneSettings = SETTINGS,
    searcher: Searcher | None = None,
    workbench: ToyWorkbench | None = None,
    oracle: LinearOracle | None = None,
    budget: Budget | None = None,
) -> Outcome:
    """Run CPrune on the toy with a clock that stands still: all seconds are those that the oracle claims."""
    return run(
        searcher or CPrune(settings),
        workbench or ToyWorkbench(),
        oracle or ToyOracle(),
        header=header(settings),
        budget=budget or Budget(),
        run_dir=run_dir,
        clock=lambda: 0.0,
    )


def main() -> None:
    """Search slowly in the folder given on the command line, for a test that kills this process."""

    def slowly() -> None:
        time.sleep(0.01)

    print("ready", flush=True)
    search(Path(sys.argv[1]), workbench=ToyWorkbench(event=slowly), oracle=ToyOracle(event=slowly))
    print("done", flush=True)


if __name__ == "__main__":
    main()
