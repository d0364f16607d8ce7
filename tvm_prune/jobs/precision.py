"""Choose the number format of every layer for a goal: a latency, a size, or an accuracy that may be lost.

Sensitivities (validation split) and prices (oracle) are measured once and kept in the folder; from them the formats are
chosen, and the chosen network is then rounded, scored on the validation split and compared as a compiled module. The
test split is looked at when nothing is to be decided any more.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tvm_prune.codec import STRICT, decode, dumps, encode
from tvm_prune.compress.calibrate import Observer, Seen, observe
from tvm_prune.compress.quantize import with_precision
from tvm_prune.compress.recipe import Recipe
from tvm_prune.errors import ConfigError, GoalError
from tvm_prune.files import write_atomically
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.scheme import FLOAT32, INT8, Scheme
from tvm_prune.graph.stored_tensors import integer_capable, reference_module, traced_graph
from tvm_prune.jobs.number_formats import QuantizeSettings, calibration_batches
from tvm_prune.jobs.quantize import Quantized, deliver
from tvm_prune.jobs.sensitivity import measured_sensitivities
from tvm_prune.jobs.tune import compressed
from tvm_prune.jobs.watcher import Silent, Watcher
from tvm_prune.models.datasets.dataset import DataSet
from tvm_prune.models.evaluate import Score, evaluate
from tvm_prune.models.load import Model
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.report.sensitivity_plot import plot_sensitivities
from tvm_prune.search.format_choice import Choice, FormatOption, Limits, choose, choose_greedily
from tvm_prune.search.format_prices import FormatPrices, price_formats
from tvm_prune.search.sensitivity import Sensitivity, possible_formats

__all__ = ["FormatSearch", "PrecisionSettings", "precision"]

# The accuracy of the chosen network is looked at so many times at most.
_LOOKS = 8


@dataclass(frozen=True, kw_only=True)
class PrecisionSettings:
    """What to choose from, and for which goal; at least one of the three goals.

    `formats` are short names (graph/scheme.py), float32 being always one of them. `latency_goal_ms` and `size_goal`
    (bytes of weights) are met with the least harm; `max_drop` (points of validation accuracy) with the least latency,
    or within the other goals. `search` is "exact" (integer programming) or "greedy" (for a latency only).
    """

    formats: tuple[str, ...] = ("int8",)
    latency_goal_ms: Annotated[float, Field(gt=0)] | None = None
    size_goal: Annotated[int, Field(gt=0)] | None = None
    max_drop: Annotated[float, Field(ge=0)] | None = None
    search: Literal["exact", "greedy"] = "exact"
    sensitivity_images: Annotated[int, Field(ge=1)] = 512
    calibration_images: Annotated[int, Field(ge=1)] = 512
    observer: Observer = "mse"
    __pydantic_config__ = STRICT

    def checked(self) -> "PrecisionSettings":
        """Return the settings with unknown values refused. Raises ConfigError or QuantizationError."""
        found = decode(PrecisionSettings, encode(self))
        for name in found.formats:
            Scheme.parse(name)
        if found.latency_goal_ms is found.size_goal is found.max_drop is None:
            raise ConfigError("precision needs a goal: --latency-goal MS, --size-goal BYTES or --max-drop POINTS")
        if found.search == "greedy" and (found.latency_goal_ms is None or found.size_goal or found.max_drop):
            raise ConfigError("the greedy search goes by a latency alone: give --latency-goal, or --search exact")
        return found


@dataclass(frozen=True, kw_only=True)
class FormatSearch:
    """What was chosen, from what: scores of the validation split, seconds by the table, and what was then measured."""

    settings: PrecisionSettings
    table: FormatPrices
    sensitivities: tuple[Sensitivity, ...]
    formats: dict[str, str]
    harm: float
    expected_s: float
    expected_bytes: int
    validation: Score
    float_validation: Score
    quantized: Quantized = field(repr=False)
    __pydantic_config__ = STRICT


def precision(
    model: Model | CompressedModel,
    data: DataSet,
    oracle: CompilerOracle,
    *,
    out: Path | str,
    settings: PrecisionSettings,
    name: str | None = None,
    recipe: Recipe | None = None,
    watcher: Watcher | None = None,
) -> FormatSearch:
    """Choose the format of every layer of `model`; write what `quantize` writes, and the search to ``out/search.json``.

    Sensitivities are kept in ``out/sensitivity.jsonl``, and found again by a later call with another goal. Raises
    ConfigError for settings that contradict each other, GoalError for a goal out of reach.
    """
    settings, out, watcher = settings.checked(), Path(out), watcher or Silent()
    dense = compressed(model)
    name = name or (model.name if isinstance(model, Model) else type(model.module).__name__)
    watcher.stage("calibrate on the training split")
    capable = integer_capable(traced_graph(dense).graph)
    batches = calibration_batches(data, settings.calibration_images)
    seen = observe(dense, capable, batches, counting=settings.observer != "minmax")
    formats = possible_formats(dense, [Scheme.parse(each) for each in settings.formats])
    found = measured_sensitivities(
        dense,
        data,
        formats,
        seen,
        images=settings.sensitivity_images,
        observer=settings.observer,
        out=out,
        watcher=watcher,
    )
    plot_sensitivities(out / "sensitivity.png", found)
    watcher.stage("price layers and their neighbours in float32")
    integers = with_precision(dense, dict.fromkeys(capable, INT8), seen, observer=settings.observer)
    table = price_formats(integers, oracle)
    options = _options(dense, found)
    search = _Search(dense, data, settings, seen, options, table, watcher)
    choice, made, score = search.carry_out()
    kept = QuantizeSettings(
        scheme="float32", layers=choice.formats, images=settings.calibration_images, observer=settings.observer
    )
    quantized = deliver(made, model, data, oracle, out=out, settings=kept, name=name, recipe=recipe, watcher=watcher)
    result = FormatSearch(
        settings=settings,
        table=table,
        sensitivities=found,
        formats=choice.formats,
        harm=choice.harm,
        expected_s=choice.latency_s,
        expected_bytes=choice.bytes,
        validation=score,
        float_validation=search.float_score,
        quantized=quantized,
    )
    write_atomically(out / "search.json", dumps(result) + "\n")
    return result


class _Search:
    def __init__(
        self,
        dense: CompressedModel,
        data: DataSet,
        settings: PrecisionSettings,
        seen: Mapping[str, Seen],
        options: Mapping[str, Sequence[FormatOption]],
        table: FormatPrices,
        watcher: Watcher,
    ) -> None:
        self._dense, self._data, self._settings, self._seen = dense, data, settings, seen
        self._options, self._table, self._watcher = options, table, watcher
        self.float_score = evaluate(dense.module, data.val, data)

    def carry_out(self) -> tuple[Choice, CompressedModel, Score]:
        """Return the choice, the network rounded so, and its score on the validation split."""
        settings = self._settings
        limits = Limits(
            latency_s=math.inf if settings.latency_goal_ms is None else settings.latency_goal_ms / 1e3,
            bytes=math.inf if settings.size_goal is None else settings.size_goal,
        )
        if settings.search == "greedy":
            return self._looked_at(choose_greedily(self._options, self._table, limits))
        choice, made, score = self._looked_at(choose(self._options, self._table, limits))
        if settings.max_drop is None:
            return choice, made, score
        # Harm stands for accuracy only roughly: less of it is allowed until the network itself loses little enough,
        # then more again as far as that goes.
        kept = (choice, made, score) if self._allowed(score) else None
        low, high = (choice.harm, choice.harm) if kept else (0.0, choice.harm)
        for _ in range(_LOOKS):
            if kept and high - low <= 0.05 * high:
                break
            middle = (low + high) / 2
            try:
                tried = self._looked_at(choose(self._options, self._table, replace(limits, harm=middle)))
            except GoalError:
                low = middle
                continue
            if self._allowed(tried[2]):
                kept, low = tried, middle
            else:
                high = min(middle, tried[0].harm)
        if kept is None:
            raise GoalError(
                f"no choice of formats that was tried loses at most {settings.max_drop:g} points of the validation "
                f"accuracy and meets the other goals: allow more (--max-drop), or train with rounding "
                "(tvm-prune quantize --train-epochs 2)"
            )
        return kept

    def _allowed(self, score: Score) -> bool:
        assert self._settings.max_drop is not None
        return 100 * (self.float_score.fraction - score.fraction) <= self._settings.max_drop

    def _looked_at(self, choice: Choice) -> tuple[Choice, CompressedModel, Score]:
        chosen = {layer: scheme for layer, name in choice.formats.items() if (scheme := Scheme.parse(name)) != FLOAT32}
        made = with_precision(self._dense, chosen, self._seen, observer=self._settings.observer)
        score = evaluate(reference_module(made, any_batch=True), self._data.val, self._data)
        self._watcher.note(
            f"{len(made.integer_layers)} layers in integers, {1e3 * choice.latency_s:.4g} ms by the table: {score}"
        )
        return choice, made, score


def _options(model: CompressedModel, found: Sequence[Sensitivity]) -> dict[str, list[FormatOption]]:
    """Return what each layer may be: float32, and the formats whose harm is known."""
    options: dict[str, list[FormatOption]] = {}
    for each in found:
        weight = model.module.get_parameter(f"{each.layer}.weight")
        scheme = Scheme.parse(each.format)
        if each.layer not in options:
            whole = FormatOption(format=str(FLOAT32), in_integers=False, harm=0.0, bytes=4 * weight.numel())
            options[each.layer] = [whole]
        options[each.layer].append(
            FormatOption(
                format=each.format,
                in_integers=scheme.in_integers,
                harm=each.kl,
                bytes=-(-weight.numel() * scheme.weight_bits // 8) + 4 * len(weight),
            )
        )
    return options
