"""Training learns, repeats itself from the seed, resumes as if never stopped, and refuses contradictions."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.models.small import bright_data, tiny_net
from tvm_prune import lock
from tvm_prune.errors import ConfigError, ModelError, WeightsError
from tvm_prune.models.datasets import load_data
from tvm_prune.models.evaluate import evaluate
from tvm_prune.models.train import Progress, TrainSettings, train
from tvm_prune.models.zoo import build

SHORT = TrainSettings(epochs=4, batch_size=32, lr=0.1)


def _equal(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class _Stop(Exception):  # noqa: N818 (it stands for a kill, not for an error)
    pass


def _stop_after(step: int) -> Callable[[Progress], None]:
    def progress(state: Progress) -> None:
        if state.step == step:
            raise _Stop

    return progress


def test_a_small_net_learns_an_easy_problem() -> None:
    data = bright_data()
    before = evaluate(tiny_net(), data.val, data)
    result = train(tiny_net(), data, replace(SHORT, epochs=15))
    assert evaluate(result.module, data.val, data).fraction > max(0.9, before.fraction)
    assert result.history[-1].loss < result.history[0].loss
    assert result.steps == 60


def test_lenet_learns_the_digits_in_seconds() -> None:
    data = load_data("digits")
    result = train(build("lenet5"), data, TrainSettings(steps=90, batch_size=64, lr=0.1))
    assert evaluate(result.module, data.val, data).fraction > 0.9


def test_the_input_module_is_left_alone_and_the_result_is_ready_for_use() -> None:
    module = tiny_net()
    result = train(module, bright_data(), SHORT)
    assert _equal(module, tiny_net())
    assert not module.training
    assert not result.module.training
    assert not _equal(result.module, module)
    assert all(value.is_contiguous() and value.requires_grad for value in result.module.parameters())
    assert int(result.module.state_dict()["1.num_batches_tracked"]) == 16


def test_equal_seeds_give_equal_weights_and_other_seeds_others() -> None:
    first, again = (train(tiny_net(), bright_data(), SHORT) for _ in range(2))
    other = train(tiny_net(), bright_data(), replace(SHORT, seed=1))
    assert _equal(first.module, again.module)
    assert not _equal(first.module, other.module)


def test_training_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    train(tiny_net(), bright_data(), replace(SHORT, epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.timeout(60)
def test_a_strided_pointwise_convolution_of_few_channels_does_not_train_for_ever() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert train(net, bright_data(), TrainSettings(steps=8, batch_size=64)).steps == 8


@pytest.mark.parametrize("settings", [SHORT, replace(SHORT, epochs=None, steps=14), replace(SHORT, ema=0.9)])
@pytest.mark.parametrize("killed_at", [4, 6, 9])
def test_a_killed_training_goes_on_as_if_never_stopped(settings: TrainSettings, killed_at: int, tmp_path: Path) -> None:
    unbroken = train(tiny_net(), bright_data(), settings)
    with pytest.raises(_Stop):
        train(tiny_net(), bright_data(), settings, checkpoint_dir=tmp_path, progress=_stop_after(killed_at))
    steps: list[int] = []
    resumed = train(
        tiny_net(),
        bright_data(),
        settings,
        checkpoint_dir=tmp_path,
        progress=lambda state: steps.append(state.step),
    )
    assert steps[0] == (killed_at - 1) // 4 * 4 + 1
    assert resumed.steps == unbroken.steps == steps[-1]
    assert _equal(resumed.module, unbroken.module)
    assert [(epoch.number, epoch.steps, epoch.loss) for epoch in resumed.history] == [
        (epoch.number, epoch.steps, epoch.loss) for epoch in unbroken.history
    ]


def test_a_finished_training_is_returned_without_another_step(tmp_path: Path) -> None:
    first = train(tiny_net(), bright_data(), SHORT, checkpoint_dir=tmp_path)
    second = train(tiny_net(), bright_data(), SHORT, checkpoint_dir=tmp_path, progress=_stop_after(1))
    assert _equal(first.module, second.module)
    assert (second.steps, len(second.history)) == (16, 4)


def test_a_checkpoint_of_other_settings_data_or_model_is_refused(tmp_path: Path) -> None:
    train(tiny_net(), bright_data(), SHORT, checkpoint_dir=tmp_path)
    with pytest.raises(ConfigError, match="belongs to a training with other settings"):
        train(tiny_net(), bright_data(), replace(SHORT, lr=0.2), checkpoint_dir=tmp_path)
    with pytest.raises(ConfigError, match="other settings, data, first weights or teacher"):
        train(tiny_net(), bright_data(96), SHORT, checkpoint_dir=tmp_path)
    with pytest.raises(ConfigError, match="other settings, data, first weights or teacher"):
        train(tiny_net(num_classes=3), bright_data(), SHORT, checkpoint_dir=tmp_path)


def test_a_corrupt_checkpoint_is_named(tmp_path: Path) -> None:
    train(tiny_net(), bright_data(), replace(SHORT, epochs=1), checkpoint_dir=tmp_path)
    path = tmp_path / "train.ckpt"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(WeightsError, match=r"train\.ckpt is not a training checkpoint.*remove it"):
        train(tiny_net(), bright_data(), replace(SHORT, epochs=1), checkpoint_dir=tmp_path)


def test_a_callback_sees_every_step_and_history_every_epoch() -> None:
    seen: list[Progress] = []
    result = train(tiny_net(), bright_data(), replace(SHORT, epochs=2), progress=seen.append, validate=True)
    assert [(state.step, state.epoch) for state in seen] == [(step, (step - 1) // 4) for step in range(1, 9)]
    assert {state.steps for state in seen} == {8}
    assert [(epoch.steps, epoch.val_total) for epoch in result.history] == [(4, 128), (4, 128)]


def test_steps_may_end_within_an_epoch() -> None:
    result = train(tiny_net(), bright_data(), replace(SHORT, epochs=None, steps=6))
    assert [epoch.steps for epoch in result.history] == [4, 2]


def test_a_teacher_alone_teaches_the_student_its_answers() -> None:
    data = bright_data()
    teacher = train(tiny_net(seed=1), data, replace(SHORT, epochs=15)).module
    # Labels turned round: with all the weight on the teacher they must not matter.
    split = type(data.train)(data.train.images, 1 - data.train.labels)
    settings = replace(SHORT, epochs=15, distill_weight=1.0, temperature=2.0)
    student = train(tiny_net(), replace(data, train=split), settings, teacher=teacher).module
    assert evaluate(student, data.val, data).fraction > 0.9


def test_label_smoothing_schedule_and_decay_reach_the_weights() -> None:
    plain = train(tiny_net(), bright_data(), SHORT).module
    for change in (
        {"label_smoothing": 0.2},
        {"schedule": "constant"},
        {"weight_decay": 0.1},
        {"momentum": 0.5},
        {"clip_norm": 0.01},
        {"warmup_fraction": 0.5},
        {"precision": "bf16"},
        {"ema": 0.9},
    ):
        assert not _equal(plain, train(tiny_net(), bright_data(), replace(SHORT, **change)).module), change


def test_frozen_parameters_stay_frozen() -> None:
    module = tiny_net()
    next(module.parameters()).requires_grad_(False)
    result = train(module, bright_data(), replace(SHORT, epochs=1, ema=0.5))
    assert torch.equal(result.module.state_dict()["0.weight"], module.state_dict()["0.weight"])
    assert [value.requires_grad for value in result.module.parameters()] == [False, True, True, True, True]


def test_norms_keep_their_statistics_where_that_is_asked_for() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    for frozen in (True, False):
        trained = train(module, bright_data(), TrainSettings(steps=4, batch_size=32, freeze_norms=frozen)).module
        same = torch.equal(trained.get_buffer("1.running_mean"), module.get_buffer("1.running_mean"))
        assert same is frozen
        assert not torch.equal(trained.get_parameter("1.bias"), module.get_parameter("1.bias"))


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as in a terminal; the processes that share a test run among them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_arrives_as_such_and_can_be_pressed_again() -> None:
    def press(state: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tiny_net(), bright_data(), SHORT, progress=press)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (TrainSettings(), "exactly one of epochs and steps"),
        (TrainSettings(epochs=1, steps=1), "exactly one of epochs and steps"),
        (TrainSettings(epochs=0), "epochs: Input should be greater than or equal to 1"),
        (TrainSettings(epochs=1, lr=-1.0), "lr: Input should be greater than 0"),
        (TrainSettings(epochs=1, distill_weight=0.5), "a teacher and distill_weight > 0 go together, got no teacher"),
    ],
)
def test_contradictory_settings_are_refused(settings: TrainSettings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(tiny_net(), bright_data(), settings)


def test_a_teacher_without_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="got a teacher and distill_weight=0"):
        train(tiny_net(), bright_data(), SHORT, teacher=tiny_net())


def test_a_model_without_logits_is_refused() -> None:
    with pytest.raises(ModelError, match="must return one tensor"):
        train(nn.Sequential(nn.Conv2d(3, 2, 1)), bright_data(), SHORT)


CHILD = """
import sys
import time
from pathlib import Path
from tests.models.small import bright_data, tiny_net
from tests.models.test_train import SHORT
from tvm_prune.models.train import train

def wait_to_be_killed(state):
    print(state.step, flush=True)
    time.sleep(60 if state.step == 10 else 0)

train(tiny_net(), bright_data(), SHORT, checkpoint_dir=Path(sys.argv[1]), progress=wait_to_be_killed)
"""


@pytest.mark.slow
def test_a_process_killed_outright_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == "10":
                child.kill()
                break
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["train.ckpt"]
    steps: list[int] = []
    resumed = train(
        tiny_net(), bright_data(), SHORT, checkpoint_dir=tmp_path, progress=lambda state: steps.append(state.step)
    )
    assert steps[0] == 9
    assert _equal(resumed.module, train(tiny_net(), bright_data(), SHORT).module)


def test_a_checkpoint_of_other_first_weights_is_refused(tmp_path: Path) -> None:
    train(tiny_net(), bright_data(), SHORT, checkpoint_dir=tmp_path)
    other = tiny_net()
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    with pytest.raises(ConfigError, match="first weights or teacher"):
        train(other, bright_data(), SHORT, checkpoint_dir=tmp_path)


def test_nobody_measures_while_an_epoch_is_trained() -> None:
    held: list[bool] = []
    train(tiny_net(), bright_data(), SHORT, progress=lambda state: held.append(lock._held))
    assert all(held)
    assert len(held) == 16
    assert not lock._held
