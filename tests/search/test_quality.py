"""Quality from a data set and from the user's own functions."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.models.small import bright_data, tiny_net
from tvm_prune.errors import ConfigError, ModelError
from tvm_prune.models.train_settings import TrainSettings
from tvm_prune.search.quality import DataQuality, UserQuality

SHORT = TrainSettings(steps=30, batch_size=32, lr=0.1)


def test_training_on_a_data_set_learns_it() -> None:
    quality = DataQuality(bright_data(), short=SHORT, final=SHORT)
    module = quality.finetune(tiny_net(), steps=30, seed=0, final=False)
    assert quality.validate(module).fraction > 0.9
    assert quality.test(module).total == 128


def test_steps_and_seed_of_the_call_count_and_final_selects_its_own_settings() -> None:
    still = TrainSettings(steps=30, batch_size=32, lr=1e-12, weight_decay=0)
    quality = DataQuality(bright_data(), short=still, final=SHORT)
    start = tiny_net()
    short, final = (quality.finetune(start, steps=3, seed=0, final=final) for final in (False, True))
    change = [
        max((new - old).abs().max().item() for new, old in zip(module.parameters(), start.parameters(), strict=True))
        for module in (short, final)
    ]
    assert change[0] < 1e-6 < change[1]


def test_an_epoch_is_counted_in_batches() -> None:
    assert DataQuality(bright_data(100), short=SHORT, final=SHORT).steps_per_epoch == 3


def test_distilling_without_a_teacher_is_refused() -> None:
    settings = TrainSettings(steps=1, distill_weight=0.5)
    with pytest.raises(ConfigError, match="distill_weight is above 0 but no teacher"):
        DataQuality(bright_data(), short=settings, final=settings)


def test_a_teacher_is_used_only_where_the_settings_weigh_it() -> None:
    distilling = TrainSettings(steps=1, batch_size=32, lr=0.1, distill_weight=1.0)
    plain = TrainSettings(steps=1, batch_size=32, lr=0.1)
    quality = DataQuality(bright_data(), short=plain, final=distilling, teacher=tiny_net())
    without, with_teacher = (quality.finetune(tiny_net(), steps=2, seed=0, final=final) for final in (False, True))
    pairs = zip(without.parameters(), with_teacher.parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in pairs)


def test_gradients_cover_every_parameter() -> None:
    module = tiny_net()
    found = DataQuality(bright_data(), short=SHORT, final=SHORT).gradients(module)
    assert sorted(found) == sorted(name for name, _ in module.named_parameters())


def test_the_users_functions_are_used_as_they_are() -> None:
    seen: list[int] = []

    def finetune(module: nn.Module, epochs: int) -> None:
        seen.append(epochs)
        with torch.no_grad():
            next(module.parameters()).add_(torch.rand(1))

    quality = UserQuality(lambda module: 0.75, finetune, test=lambda module: 0.5)
    module = tiny_net()
    first, second = (quality.finetune(module, steps=3, seed=1, final=False) for _ in range(2))
    assert seen == [3, 3]
    assert torch.equal(next(first.parameters()), next(second.parameters())), "the seed decides"
    assert not torch.equal(next(first.parameters()), next(module.parameters())), "a copy was trained"
    assert quality.validate(module).fraction == 0.75
    assert quality.test(module).fraction == 0.5
    assert quality.steps_per_epoch == 1


def test_a_module_that_the_users_function_returns_is_taken() -> None:
    other = tiny_net()
    assert (
        UserQuality(lambda module: 1.0, lambda module, epochs: other).finetune(tiny_net(), steps=1, seed=0, final=True)
        is other
    )


@pytest.mark.parametrize("value", [-0.1, 91.5])
def test_an_accuracy_that_is_no_fraction_is_refused(value: float) -> None:
    with pytest.raises(
        ModelError, match=f"your evaluate function returned {value}; it must return an accuracy between"
    ):
        UserQuality(lambda module: value, lambda module, epochs: None).validate(tiny_net())


def test_gradients_need_a_data_set() -> None:
    with pytest.raises(ConfigError, match="criterion 'taylor' needs a data set"):
        UserQuality(lambda module: 1.0, lambda module, epochs: None).gradients(tiny_net())


def test_gradients_do_not_depend_on_the_order_of_the_files() -> None:
    data = bright_data(2000)
    order = torch.argsort(data.train.labels, stable=True)
    labels = data.train.labels[order]
    by_class = replace(data, train=data.train.take(order))
    seen = DataQuality(by_class, short=SHORT, final=SHORT)._gradient_sample.labels
    share = float(seen.float().mean()), float(labels.float().mean())
    assert share[0] == pytest.approx(share[1], abs=0.1)


def test_only_a_test_function_of_its_own_makes_a_test() -> None:
    def score(module: nn.Module) -> float:
        return 0.5

    assert not UserQuality(score, lambda module, epochs: None).has_test
    assert UserQuality(score, lambda module, epochs: None, test=score).has_test


def test_the_images_to_look_at_are_the_same_every_time_and_those_of_no_other_split() -> None:
    data = bright_data()
    train, val = (data.train.take(torch.arange(64) + begin) for begin in (0, 64))
    quality = DataQuality(replace(data, train=train, val=val), short=SHORT, final=SHORT)
    first, second = quality.calibration(24), quality.calibration(24)
    unseen = quality.unseen(16)
    assert first is not None
    assert second is not None
    assert unseen is not None
    assert (first.shape[0], unseen.shape[0]) == (24, 16)
    assert torch.equal(first, second)
    assert not (unseen[:, None] == first[None]).flatten(2).all(dim=2).any()


def test_without_images_there_is_nothing_to_look_at() -> None:
    quality = DataQuality(bright_data(), short=SHORT, final=SHORT)
    assert quality.calibration(0) is quality.unseen(0) is None
    mine = UserQuality(lambda _: 1.0, lambda *_: None)
    assert mine.calibration(8) is mine.unseen(8) is None


def test_the_users_own_inputs_are_looked_at_from_both_ends() -> None:
    inputs = torch.arange(10.0)
    quality = UserQuality(lambda _: 1.0, lambda *_: None, inputs=inputs)
    first, last = quality.calibration(4), quality.unseen(4)
    assert first is not None
    assert last is not None
    assert (first.tolist(), last.tolist()) == ([0, 1, 2, 3], [6, 7, 8, 9])
    assert quality.calibration(0) is quality.unseen(0) is None
