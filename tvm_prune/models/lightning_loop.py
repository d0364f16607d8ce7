"""The training loop proper, on Lightning. Kept apart from train.py because importing Lightning takes seconds."""

import contextlib
import copy
import hashlib
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from tvm_prune.codec import decode, dumps, encode
from tvm_prune.errors import ConfigError, WeightsError
from tvm_prune.files import disk_full_is_named
from tvm_prune.lock import machine_lock
from tvm_prune.models.datasets.batches import TrainBatches
from tvm_prune.models.datasets.dataset import DataSet
from tvm_prune.models.evaluate import checked_logits, evaluate
from tvm_prune.models.lightning_manners import interruptible, quiet
from tvm_prune.models.train_settings import Epoch, Progress, TrainSettings
from tvm_prune.models.weights import weights_digest

__all__ = ["CHECKPOINT", "Fit", "fit"]

CHECKPOINT = "train.ckpt"
_STATE = "tvm_prune"
# Between two epochs whoever waits for the machine must find it free: it looks five times a second.
_COURTESY_S = 0.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Everything one training needs; `module`, whose filters are in `memory_format`, is trained in place."""

    module: nn.Module
    memory_format: torch.memory_format
    data: DataSet
    batches: TrainBatches
    settings: TrainSettings
    teacher: nn.Module | None
    checkpoint_dir: Path | None
    progress: Callable[[Progress], None] | None
    validate: bool

    @property
    def total_steps(self) -> int:
        """Optimizer steps from start to end."""
        return self.settings.steps or (self.settings.epochs or 0) * len(self.batches)

    @cached_property
    def identity(self) -> str:
        """What a checkpoint must agree on to be gone on from: settings, first weights, teacher, training images.

        Asked for before the first step: the weights move afterwards.
        """
        labels = self.data.train.labels.numpy().tobytes()
        return dumps(
            {
                "settings": encode(self.settings),
                "data": self.data.name,
                "labels": hashlib.sha256(labels).hexdigest(),
                "weights": weights_digest(self.module),
                "teacher": "" if self.teacher is None else weights_digest(self.teacher),
            }
        )


class _Learner(LightningModule):
    def __init__(self, plan: Fit) -> None:
        super().__init__()
        self.plan = plan
        self.module = plan.module
        self.average = copy.deepcopy(plan.module).requires_grad_(False) if plan.settings.ema else None
        self.history: list[Epoch] = []
        self.seconds_before = 0.0
        self.started = time.monotonic()
        self._epoch_started = self.started
        self._losses: list[torch.Tensor] = []
        self._machine = contextlib.ExitStack()
        # In a list, so that the teacher is not registered as a part of the learner (its weights, its checkpoint).
        self._teacher = [copy.deepcopy(plan.teacher).requires_grad_(False).eval()] if plan.teacher is not None else []

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of training, those before a resume included."""
        return self.seconds_before + time.monotonic() - self.started

    def configure_optimizers(self) -> Any:
        settings = self.plan.settings
        decayed = [p for p in self.module.parameters() if p.requires_grad and p.dim() > 1]
        plain = [p for p in self.module.parameters() if p.requires_grad and p.dim() <= 1]
        optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=settings.lr,
            momentum=settings.momentum,
            nesterov=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        total = self.plan.total_steps
        warmup = round(self.plan.settings.warmup_fraction * total)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.plan.settings.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    def on_fit_start(self) -> None:
        for teacher in self._teacher:
            teacher.to(self.device)

    def on_train_epoch_start(self) -> None:
        self._take_the_machine()
        self.module.train()
        if self.plan.settings.freeze_norms:
            for part in self.module.modules():
                if isinstance(part, _BatchNorm):
                    part.eval()
        self.plan.batches.set_epoch(self.current_epoch)
        # Dropout and the like draw from the global state: start it from the epoch, as the order of the images does.
        torch.manual_seed(self.plan.settings.seed * 1_000_003 + self.current_epoch)
        self._epoch_started = time.monotonic()
        self._losses = []

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, labels = batch
        inputs = images.contiguous(memory_format=self.plan.memory_format)
        settings = self.plan.settings
        logits = checked_logits(self.module(inputs), self.plan.data)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing)
        for teacher in self._teacher:
            with torch.no_grad():
                wanted = functional.log_softmax(teacher(inputs).float() / settings.temperature, dim=1)
            found = functional.log_softmax(logits.float() / settings.temperature, dim=1)
            soft = functional.kl_div(found, wanted, log_target=True, reduction="batchmean") * settings.temperature**2
            loss = (1 - settings.distill_weight) * loss + settings.distill_weight * soft
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = outputs["loss"].detach()
        self._losses.append(loss)
        if self.average is not None:
            self._update_average(self.average)
        if self.global_step == self.plan.total_steps:
            self.trainer.should_stop = True
        if self.plan.progress is not None:
            self.plan.progress(
                Progress(step=self.global_step, steps=self.plan.total_steps, epoch=self.current_epoch, loss=float(loss))
            )

    def _update_average(self, average: nn.Module) -> None:
        # A young average follows quickly, or it would remember the random start.
        decay = min(self.plan.settings.ema, self.global_step / (self.global_step + 10))
        mine, theirs = average.state_dict(), self.module.state_dict()
        floating = [name for name, value in mine.items() if value.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_([mine[name] for name in floating], [theirs[name] for name in floating], 1 - decay)
            for name in mine.keys() - set(floating):
                mine[name].copy_(theirs[name])

    def result(self) -> nn.Module:
        """Return the weights to hand out: the average where one is kept."""
        return self.module if self.average is None else self.average

    def on_train_epoch_end(self) -> None:
        score = evaluate(self.result(), self.plan.data.val, self.plan.data) if self.plan.validate else None
        epoch = Epoch(
            number=self.current_epoch,
            steps=len(self._losses),
            loss=float(torch.stack(self._losses).mean()),
            seconds=time.monotonic() - self._epoch_started,
            val_correct=score.correct if score else None,
            val_total=score.total if score else None,
        )
        self.history.append(epoch)
        _log.info(
            "epoch %d: %d steps, loss %.4f, %.1f s%s",
            epoch.number,
            epoch.steps,
            epoch.loss,
            epoch.seconds,
            f", validation {score}" if score else "",
        )
        if self.plan.checkpoint_dir is not None:
            self._save(self.plan.checkpoint_dir)
        self.leave_the_machine()

    def _take_the_machine(self) -> None:
        """Keep measurements out for an epoch: they would find the cores busy. One of several processes does it."""
        if not self.trainer.is_global_zero:
            return
        if self.history:
            time.sleep(_COURTESY_S)
        self._machine.enter_context(
            machine_lock("training", waiting=lambda who: _log.warning("waiting for the machine: in use for %s", who))
        )

    def leave_the_machine(self) -> None:
        """Let others have the machine."""
        self._machine.close()

    def _save(self, folder: Path) -> None:
        final = folder / CHECKPOINT
        part = folder / f".{CHECKPOINT}.part"
        with disk_full_is_named(final):
            folder.mkdir(parents=True, exist_ok=True)
            self.trainer.save_checkpoint(part)
            if self.trainer.is_global_zero:
                os.replace(part, final)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[_STATE] = {
            "identity": self.plan.identity,
            "history": encode(self.history),
            "seconds": self.seconds,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint[_STATE]
        self.history = [decode(Epoch, item) for item in state["history"]]
        self.seconds_before = state["seconds"]


def fit(plan: Fit) -> tuple[nn.Module, int, float, tuple[Epoch, ...]]:
    """Train `plan.module` in place; return (trained module, steps, seconds, history)."""
    learner = _Learner(plan)
    identity = plan.identity
    resume = _checkpoint_of(plan, identity)
    with quiet(), torch.random.fork_rng():
        trainer = Trainer(
            accelerator="auto",
            devices="auto",
            precision="bf16-mixed" if plan.settings.precision == "bf16" else "32-true",
            # Steps are limited by the learner: with max_steps, Lightning miscounts after a resume.
            max_epochs=math.ceil(plan.total_steps / len(plan.batches)),
            min_epochs=0,
            gradient_clip_val=plan.settings.clip_norm or None,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            with interruptible(trainer):
                trainer.fit(learner, plan.batches, ckpt_path=resume, weights_only=True)
        finally:
            learner.leave_the_machine()
    trained = learner.result()
    for after, before in zip(trained.parameters(), plan.module.parameters(), strict=True):
        after.requires_grad_(before.requires_grad)
    return trained, trainer.global_step, learner.seconds, tuple(learner.history)


def _checkpoint_of(plan: Fit, identity: str) -> Path | None:
    if plan.checkpoint_dir is None or not (plan.checkpoint_dir / CHECKPOINT).exists():
        return None
    path = plan.checkpoint_dir / CHECKPOINT
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)[_STATE]
    except (RuntimeError, KeyError, ValueError, EOFError, OSError) as error:
        raise WeightsError(
            f"{path} is not a training checkpoint of tvm_prune ({error}); remove it to start anew."
        ) from error
    if state["identity"] != identity:
        raise ConfigError(
            f"{path} belongs to a training with other settings, data, first weights or teacher; "
            "use another checkpoint folder, or remove that file to start anew."
        )
    return path
