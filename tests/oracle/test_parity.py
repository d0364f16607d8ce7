"""The compiled module must compute what torch computes: every output, on inputs that are not zeros."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.oracle.quick import compressed, mixed
from tvm_prune.errors import ParityError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.parity import worst_difference

IMAGE = (1, 3, 8, 8)
MODEL = mixed()


def test_each_output_is_judged_on_its_own_scale() -> None:
    large, small = np.full(3, 1e4), np.full(3, 0.5)
    assert worst_difference([large + 1.0, small], [large, small]) == 1.0
    with pytest.raises(
        ParityError, match=r"output 1 of the compiled module differs from torch by 0\.1 where it reaches 0\.5"
    ):
        worst_difference([large, small + 0.1], [large, small])


def test_a_module_with_other_weights_is_no_parity(oracle: CompilerOracle, tmp_path: Path) -> None:
    library = tmp_path / "other.so"
    oracle.export_library(mixed(seed=21), library)
    with pytest.raises(ParityError, match=r"differs from torch by [\d.]+ where it reaches"):
        oracle.parity(mixed(seed=22), library=library)


def test_outputs_that_are_no_numbers_are_no_parity(oracle: CompilerOracle, tmp_path: Path) -> None:
    broken = mixed(seed=23)
    with torch.no_grad():
        broken.module.get_parameter("head.bias")[0] = math.nan
    library = tmp_path / "broken.so"
    oracle.export_library(broken, library)
    with pytest.raises(ParityError, match="differs from torch by nan"):
        oracle.parity(mixed(seed=23), library=library)


def test_a_library_that_does_not_load_is_no_parity(oracle: CompilerOracle, tmp_path: Path) -> None:
    library = tmp_path / "empty.so"
    library.write_bytes(b"no library")
    with pytest.raises(ParityError, match=r"the compiled module does not run: loading .*empty\.so"):
        oracle.parity(MODEL, library=library)


class Named(nn.Module):
    """Answers by name; the second output is small beside the first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.conv(image)
        return {"large": 1e4 * found, "small": found.mean((2, 3))}


def test_outputs_by_name_are_checked_one_by_one(oracle: CompilerOracle, monkeypatch: pytest.MonkeyPatch) -> None:
    named = compressed(Named(), IMAGE)
    oracle.parity(named)
    real = oracle._bench.run

    def wrong(name: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        large, small = real(name, inputs)
        return [large, small + 0.1]

    monkeypatch.setattr(oracle._bench, "run", wrong)
    with pytest.raises(ParityError, match=r"output 1 of the compiled module differs from torch by 0\.1"):
        oracle.parity(named)


def test_parity_is_not_fooled_by_an_example_of_zeros(oracle: CompilerOracle, tmp_path: Path) -> None:
    right, wrong = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    assert right.bias is not None
    wrong.bias = right.bias
    model, other = (
        CompressedModel(module=nn.Sequential(conv).eval(), example_inputs=(torch.zeros(IMAGE),))
        for conv in (right, wrong)
    )
    library = tmp_path / "other.so"
    oracle.export_library(other, library)
    with pytest.raises(ParityError, match="output 0 of the compiled module differs"):
        oracle.parity(model, library=library)


def test_an_integer_network_may_be_as_far_off_as_rounding_has_moved_it() -> None:
    expected, exact = [np.array([10.0, -2.0])], [np.array([10.7, -2.0])]
    near, far = [np.array([10.6, -2.0])], [np.array([10.0, -2.8])]
    assert worst_difference(near, expected, exact=exact) == pytest.approx(0.6)
    assert worst_difference([np.array([10.4, -2.0])], expected, exact=expected) == pytest.approx(0.4)
    with pytest.raises(ParityError, match=r"differs from torch by 0\.8 where it reaches 10"):
        worst_difference(far, expected, exact=exact)
