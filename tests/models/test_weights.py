"""Weights go to a file and back, and a file that does not fit says in what."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.models.small import tiny_net
from tvm_prune.errors import WeightsError
from tvm_prune.models.weights import load_weights, save_weights


def test_weights_and_metadata_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    saved, loaded = tiny_net(seed=1), tiny_net(seed=2)
    save_weights(saved, path, metadata={"command": "tvm-prune train", "seed": "0"})
    assert load_weights(loaded, path) == {"command": "tvm-prune train", "seed": "0"}
    for name, value in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_tied_and_strided_weights_can_be_saved(tmp_path: Path) -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    first.weight.data = first.weight.data.t()
    module = nn.Sequential(first, second)
    save_weights(module, tmp_path / "net.safetensors")
    assert load_weights(module, tmp_path / "net.safetensors") == {}


def test_an_absent_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights file .*net\.safetensors; check the path, or train"):
        load_weights(tiny_net(), tmp_path / "net.safetensors")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_weights(tiny_net(), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="is not a whole safetensors file"):
        load_weights(tiny_net(), path)


def test_a_file_of_torch_save_says_how_to_convert_it(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(tiny_net().state_dict(), path)
    with pytest.raises(WeightsError, match=r"If it was made by torch\.save, convert it: safetensors"):
        load_weights(tiny_net(), path)


def test_missing_unexpected_and_different_keys_are_all_listed(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    state = dict(tiny_net().state_dict())
    del state["6.bias"]
    state["extra"] = torch.zeros(2)
    state["0.weight"] = torch.zeros(5, 3, 3, 3)
    state["6.weight"] = state["6.weight"].double()
    save_file(state, path)
    module = tiny_net(seed=3)
    with pytest.raises(WeightsError) as caught:
        load_weights(module, path)
    text = str(caught.value)
    assert "missing: 6.bias; unexpected: extra; different: 0.weight is float32 [5, 3, 3, 3]" in text
    assert "the model needs float32 [4, 3, 3, 3]" in text
    assert "6.weight is float64 [2, 4]" in text
    assert torch.equal(module.state_dict()["1.weight"], tiny_net(seed=3).state_dict()["1.weight"])


def test_a_long_list_of_keys_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"and 3 more; unexpected: a"):
        load_weights(tiny_net(), path)
