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


def test_a_probe_is_the_same_every_time_and_changes_nothing() -> None:
    quality = DataQuality(bright_data(), short=SHORT, final=SHORT, probe_images=50)
    module = tiny_net()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    first = quality.probe(module)
    assert first is not None
    assert first > 0
    assert first == quality.probe(module)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part.training for part in module.modules())


def test_a_trained_module_probes_better() -> None:
    quality = DataQuality(bright_data(), short=SHORT, final=SHORT)
    start = tiny_net()
    trained = quality.probe(quality.finetune(start, steps=30, seed=0, final=False))
    untrained = quality.probe(start)
    assert trained is not None
    assert untrained is not None
    assert trained < untrained


def test_stale_norm_statistics_do_not_show_in_a_probe() -> None:
    quality = DataQuality(bright_data(), short=SHORT, final=SHORT)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    fresh = quality.probe(module.eval())
    with torch.no_grad():
        module.get_buffer("1.running_mean").add_(100)
    assert quality.probe(module) == fresh


def test_the_users_functions_are_not_probed() -> None:
    assert UserQuality(lambda module: 1.0, lambda module, epochs: None).probe(tiny_net()) is None


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


def test_the_images_to_fit_on_are_the_same_every_time() -> None:
    quality = DataQuality(bright_data(), short=SHORT, final=SHORT, refit_images=24)
    first, second = quality.calibration(), quality.calibration()
    assert first is not None
    assert second is not None
    assert first.shape[0] == 24
    assert torch.equal(first, second)


def test_without_images_nothing_is_fitted() -> None:
    assert DataQuality(bright_data(), short=SHORT, final=SHORT).calibration() is None
    assert UserQuality(lambda _: 1.0, lambda *_: None).calibration() is None
