"""How to train, and what training reports: values only."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from tvm_prune.codec import STRICT

__all__ = ["Epoch", "Progress", "TrainResult", "TrainSettings"]

Fraction = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train: exactly one of `epochs` and `steps` (optimizer steps).

    `lr` is the peak rate; `warmup_fraction` the part of all steps in which it rises linearly from zero. Weight decay
    leaves biases and norm parameters alone. Gradients longer than `clip_norm` are shortened to it (0 = never), without
    which nets that have no batch norm can die at a common rate. `distill_weight` mixes the teacher's soft targets, at
    `temperature`, with the labels. `ema` is the decay of the averaged weights that are returned, 0 = return the last
    weights. `precision` is that of the arithmetic; weights stay float32. With `freeze_norms` batch norm keeps the
    statistics that it has and uses them, as in evaluation; scale and shift are trained all the same. Over few steps
    that is the better choice where the statistics are right, since those of the last small batches are noise.
    """

    epochs: Annotated[int, Field(ge=1)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 128
    lr: Annotated[float, Field(gt=0)] = 0.1
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    clip_norm: Annotated[float, Field(ge=0)] = 3.0
    warmup_fraction: Fraction = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["32", "bf16"] = "32"
    distill_weight: Fraction = 0.0
    temperature: Annotated[float, Field(gt=0)] = 4.0
    seed: Annotated[int, Field(ge=0)] = 0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    freeze_norms: bool = False
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch, or the part of one that was trained, came to. The loss is the mean over its steps."""

    number: int
    steps: int
    loss: float
    seconds: float
    val_correct: int | None = None
    val_total: int | None = None
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stands after a step: `step` of `steps`, in epoch `epoch` (from 0), with that step's loss."""

    step: int
    steps: int
    epoch: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The trained module (new, eval mode, on the CPU); steps and seconds count those before a resume."""

    module: nn.Module
    steps: int
    seconds: float
    history: tuple[Epoch, ...]
