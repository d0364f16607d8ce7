"""Weights of few bits are packed without gaps and come back as they were rounded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tvm_prune.compress.packed import is_packed, pack, read_packed, unpack, write_packed
from tvm_prune.compress.quantize import with_precision
from tvm_prune.errors import WeightsError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.integer_ops import integer_weight, weight_limit
from tvm_prune.graph.scheme import Scheme
from tvm_prune.graph.stored_tensors import own_scales


@given(st.integers(1, 8), st.integers(0, 2**32 - 1), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_integers_take_their_bits_and_come_back(bits: int, seed: int, shape: list[int]) -> None:
    limit, draw = weight_limit(bits), np.random.default_rng(seed)
    integers = draw.choice([-1, 1], shape) if bits == 1 else draw.integers(-limit, limit, shape, endpoint=True)
    packed = pack(integers, bits)
    assert packed.dtype == np.uint8
    assert packed.size == -(-integers.size * bits // 8)
    np.testing.assert_array_equal(unpack(packed, bits, tuple(shape)), integers)


@pytest.fixture
def model() -> CompressedModel:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(80, 2))
    made = CompressedModel(module=module.eval(), example_inputs=(torch.randn(1, 3, 8, 8),))
    precision = {"0": Scheme.parse("w3"), "2": Scheme.parse("w8"), "4": Scheme.parse("w1")}
    return with_precision(made, precision, {})


def test_a_file_gives_back_the_rounded_weights_and_all_else(model: CompressedModel, tmp_path: Path) -> None:
    path = tmp_path / "packed.safetensors"
    assert write_packed(model, path) == path.stat().st_size
    assert is_packed(path)
    found, kept = read_packed(path), model.module.state_dict()
    assert found.keys() == kept.keys()
    for name, value in kept.items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight":
            bits = model.precision[layer].weight_bits
            value = integer_weight(value, bits, own_scales(model, layer))
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=0)


@pytest.mark.parametrize("content", [None, b"", b"not a file of tensors"])
def test_other_files_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "packed.safetensors"
    if content is not None:
        path.write_bytes(content)
    assert not is_packed(path)
    with pytest.raises(WeightsError, match=r"holds no packed weights; give the packed\.safetensors"):
        read_packed(path)
