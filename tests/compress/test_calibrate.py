"""Ranges of stored tensors come from what they hold on the calibration data."""

from typing import get_args

import pytest
import torch
from torch import nn

from tvm_prune.compress.calibrate import Observer, calibrate, observe, ranges
from tvm_prune.errors import QuantizationError
from tvm_prune.graph.compressed import CompressedModel, StoredAs
from tvm_prune.graph.scheme import Scheme


def model(*layers: str, scheme: str = "int8") -> CompressedModel:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1))
    precision = dict.fromkeys(layers or ("0",), Scheme.parse(scheme))
    return CompressedModel(module=module.eval(), example_inputs=(torch.randn(1, 2, 6, 6),), precision=precision)


def batches(factor: float = 1.0, images: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [factor * torch.randn(images, 2, 6, 6, generator=generator) for _ in range(3)]


def test_all_of_a_range_is_covered_with_zero_exactly_among_it() -> None:
    data = batches()
    found = calibrate(model("0", "2"), data, observer="minmax")
    assert list(found) == ["input_1", "relu"]
    image = found["input_1"]
    low, high = (float(edge) for edge in torch.aminmax(torch.cat(data)))
    assert image.scale == pytest.approx((high - low) / 255, rel=1e-6)
    assert image.zero_point == round(-low / image.scale)
    assert found["relu"].zero_point == 0


def test_a_lone_outlier_is_clipped_where_that_costs_less() -> None:
    data = batches(images=500)
    data[0][0, 0, 0, 0] = 7.0
    whole, *chosen = (calibrate(model(), data, observer=name)["input_1"].scale for name in ("minmax", "mse", "entropy"))
    assert all(scale < 0.97 * whole for scale in chosen)


def test_entropy_keeps_the_range_of_values_that_are_spread_evenly() -> None:
    generator = torch.Generator().manual_seed(0)
    data = [torch.rand(500, *batches()[0].shape[1:], generator=generator)]
    whole, chosen = (calibrate(model(), data, observer=name)["input_1"].scale for name in ("minmax", "entropy"))
    assert chosen > 0.95 * whole


def test_entropy_is_not_misled_by_the_zeros_that_a_relu_leaves() -> None:
    data = [torch.relu(batch) for batch in batches(images=500)]
    whole, chosen = (calibrate(model(), data, observer=name)["input_1"].scale for name in ("minmax", "entropy"))
    assert chosen > 0.6 * whole


@pytest.mark.parametrize("observer", get_args(Observer))
def test_the_number_of_batches_does_not_matter(observer: Observer) -> None:
    data = batches()
    assert calibrate(model("0", "2"), data, observer=observer) == calibrate(
        model("0", "2"), [torch.cat(data)], observer=observer
    )


@pytest.mark.parametrize("observer", get_args(Observer))
def test_a_tensor_that_is_always_zero_has_some_scale(observer: Observer) -> None:
    found = calibrate(model(), batches(0.0), observer=observer)
    assert (found["input_1"].scale, found["input_1"].zero_point) == (1.0, 0)


def test_no_data_are_refused() -> None:
    with pytest.raises(QuantizationError, match="there are no calibration data; give --data"):
        calibrate(model(), [])


def test_values_that_are_not_finite_are_named() -> None:
    data = batches()
    data[1][0, 0, 0, 0] = float("nan")
    with pytest.raises(QuantizationError, match="tensor 'input_1' is not finite on the calibration data"):
        calibrate(model(), data)


def test_weights_that_are_not_finite_are_named() -> None:
    broken = model()
    with torch.no_grad():
        broken.module[2].weight[0, 0] = float("inf")  # type: ignore[index]
    with pytest.raises(QuantizationError, match=r"2\.weight holds NaN or infinity"):
        calibrate(broken, batches())


@pytest.mark.parametrize("observer", get_args(Observer))
def test_fewer_bits_are_spread_over_the_range_too(observer: Observer) -> None:
    found = calibrate(model(scheme="w8a3"), batches(), observer=observer)["input_1"]
    assert found.most == 7
    assert 0 < found.zero_point < 7
    whole = calibrate(model(scheme="w8a3"), batches(), observer="minmax")["input_1"]
    assert found.scale <= whole.scale * (0.99 if observer == "mse" else 1)


def test_the_range_of_fixed_point_is_that_of_its_format() -> None:
    found = calibrate(model(scheme="fixed6.3"), batches(), observer="mse")["input_1"]
    assert found == StoredAs(scale=0.125, zero_point=32, most=63)


def test_what_was_seen_serves_any_number_of_bits() -> None:
    seen = observe(model(), ["0", "2"], batches())
    for scheme in ("int8", "w4a4"):
        made = model("0", "2", scheme=scheme)
        assert ranges(made, seen) == calibrate(made, batches())
