"""Training settings go to JSON and back and know their own keys only."""

import pytest

from tvm_prune.codec import decode, encode
from tvm_prune.errors import ConfigError
from tvm_prune.models.train_settings import TrainSettings


def test_settings_survive_json() -> None:
    settings = TrainSettings(epochs=30, lr=0.2, precision="bf16", ema=0.999)
    assert decode(TrainSettings, encode(settings)) == settings


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ConfigError, match="learning_rate: Unexpected keyword argument"):
        decode(TrainSettings, {"epochs": 1, "learning_rate": 0.1})


def test_an_unknown_schedule_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="schedule: Input should be 'cosine' or 'constant'"):
        decode(TrainSettings, {"epochs": 1, "schedule": "step"})
