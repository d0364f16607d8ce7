"""A transposed convolution, rewritten, computes what torch computes; its weight is changed ahead of time."""

from typing import Any

import numpy as np
import pytest
import torch
from tvm import relax

from relay_passes.hoist_weights import HoistWeights, weight_entries
from relay_passes.pipeline import graph_passes
from relay_passes.subpixel import SubpixelConvolutions
from relay_passes.weight_changes import apply_changes
from tests.relay_passes.graphs import graph, operators, run, tensor

CASES = {
    "kernel as large as the stride": {"kernel": (2, 2), "stride": (2, 2)},
    "overlapping": {"kernel": (4, 4), "stride": (2, 2), "padding": (1, 1)},
    "a kernel that is no multiple of the stride": {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)},
    "output padding": {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "output_padding": (1, 1)},
    "output padding beyond the taps": {"kernel": (2, 2), "stride": (2, 2), "output_padding": (1, 1)},
    "gaps": {"kernel": (1, 2), "stride": (3, 2)},
    "stride 1": {"kernel": (3, 3), "stride": (1, 1), "padding": (2, 0)},
    "uneven": {"kernel": (5, 2), "stride": (3, 1), "padding": (2, 1), "output_padding": (2, 0)},
    "groups": {"kernel": (4, 3), "stride": (2, 2), "padding": (1, 0), "groups": 2},
    "depthwise": {"kernel": (4, 4), "stride": (2, 2), "padding": (1, 1), "groups": 4},
}


def transposed(
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
    output_padding: tuple[int, int] = (0, 0),
    groups: int = 1,
    dilation: tuple[int, int] = (1, 1),
) -> tuple[Any, torch.nn.ConvTranspose2d]:
    """Return the graph and torch's own layer, of 4 channels to 6."""
    layer = torch.nn.ConvTranspose2d(
        4, 6 if groups < 4 else 4, kernel, stride, padding, output_padding, groups, bias=False, dilation=dilation
    )
    data, weight = tensor("data", 1, 4, 5, 7), tensor("weight", *layer.weight.shape)

    def body(emit: Any) -> Any:
        return relax.op.nn.conv2d_transpose(
            data,
            weight,
            strides=stride,
            padding=padding,
            output_padding=output_padding,
            dilation=dilation,
            groups=groups,
            data_layout="NCHW",
            kernel_layout="IOHW",
        )

    return graph([data], [weight], body), layer


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_transposed_convolution_becomes_an_ordinary_one(case: dict[str, Any]) -> None:
    module, layer = transposed(**case)
    changed = SubpixelConvolutions()(module)  # type: ignore[operator]
    assert "nn.conv2d" in operators(changed)
    assert "nn.conv2d_transpose" not in operators(changed)
    image = torch.randn(1, 4, 5, 7, generator=torch.Generator().manual_seed(0))
    weight = layer.weight.detach()
    found = run(changed, image.numpy(), weight.numpy())[0]
    np.testing.assert_allclose(found, layer(image).detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_after_all_passes_nothing_is_done_to_the_weight_in_the_graph(case: dict[str, Any]) -> None:
    module, layer = transposed(**case)
    changed = graph_passes()(module)
    kept = operators(changed)
    assert "nn.pad" not in kept
    assert "flip" not in kept
    (entry,) = weight_entries(changed)
    image = torch.randn(1, 4, 5, 7, generator=torch.Generator().manual_seed(0))
    weight = apply_changes(layer.weight.detach().numpy(), entry["changes"])
    found = run(changed, image.numpy(), weight)[0]
    np.testing.assert_allclose(found, layer(image).detach().numpy(), rtol=1e-5, atol=1e-5)


def test_no_tap_of_a_kernel_as_large_as_the_stride_is_padded_or_turned_around() -> None:
    module, _ = transposed(kernel=(2, 2), stride=(2, 2))
    hoisted = HoistWeights()(SubpixelConvolutions()(module))  # type: ignore[operator]
    assert [kind for kind, _ in weight_entries(hoisted)[0]["changes"]] == ["reshape", "permute", "reshape"]


def test_a_dilated_one_stays() -> None:
    module, _ = transposed(kernel=(2, 2), stride=(2, 2), dilation=(2, 2))
    assert operators(SubpixelConvolutions()(module)) == ["nn.conv2d_transpose"]  # type: ignore[operator]
