"""Ranges of stored tensors come from what they hold on the calibration data."""

from typing import get_args

import pytest
import torch
from torch import nn

from tvm_prune.compress.calibrate import Observer, calibrate
from tvm_prune.errors import QuantizationError
from tvm_prune.graph.compressed import CompressedModel


def model() -> CompressedModel:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1))
    return CompressedModel(module=module.eval(), example_inputs=(torch.randn(1, 2, 6, 6),))


def batches(factor: float = 1.0, images: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [factor * torch.randn(images, 2, 6, 6, generator=generator) for _ in range(3)]


def test_all_of_a_range_is_covered_with_zero_exactly_among_it() -> None:
    data = batches()
    found = calibrate(model(), ["0", "2"], data, observer="minmax")
    assert list(found) == ["input_1", "relu"]
    image = found["input_1"]
    low, high = (float(edge) for edge in torch.aminmax(torch.cat(data)))
    assert image.scale == pytest.approx((high - low) / 255, rel=1e-6)
    assert image.zero_point == round(-low / image.scale)
    assert found["relu"].zero_point == 0


def test_a_lone_outlier_is_clipped_where_that_costs_less() -> None:
    data = batches(images=500)
    data[0][0, 0, 0, 0] = 7.0
    whole, least = (calibrate(model(), ["0"], data, observer=name)["input_1"].scale for name in ("minmax", "mse"))
    assert least < 0.97 * whole


@pytest.mark.parametrize("observer", get_args(Observer))
def test_the_number_of_batches_does_not_matter(observer: Observer) -> None:
    data = batches()
    assert calibrate(model(), ["0", "2"], data, observer=observer) == calibrate(
        model(), ["0", "2"], [torch.cat(data)], observer=observer
    )


@pytest.mark.parametrize("observer", get_args(Observer))
def test_a_tensor_that_is_always_zero_has_some_scale(observer: Observer) -> None:
    found = calibrate(model(), ["0"], batches(0.0), observer=observer)
    assert (found["input_1"].scale, found["input_1"].zero_point) == (1.0, 0)


def test_no_data_are_refused() -> None:
    with pytest.raises(QuantizationError, match="there are no calibration data; give --data"):
        calibrate(model(), ["0"], [])


def test_values_that_are_not_finite_are_named() -> None:
    data = batches()
    data[1][0, 0, 0, 0] = float("nan")
    with pytest.raises(QuantizationError, match="tensor 'input_1' is not finite on the calibration data"):
        calibrate(model(), ["0"], data)


def test_weights_that_are_not_finite_are_named() -> None:
    broken = model()
    with torch.no_grad():
        broken.module[2].weight[0, 0] = float("inf")  # type: ignore[index]
    with pytest.raises(QuantizationError, match=r"2\.weight holds NaN or infinity"):
        calibrate(broken, ["0"], batches())
