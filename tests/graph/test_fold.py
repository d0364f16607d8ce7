"""Folding batch norm: the same outputs, fewer layers, the same names."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.graph.networks import NETWORKS, built, outputs, randomised
from tvm_prune.errors import InputShapeError
from tvm_prune.graph.fold import fold_batchnorm


def norms_left(module: nn.Module) -> list[str]:
    return [name for name, part in module.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


class Branching(nn.Module):
    """Batch norms that may not be folded, each for its own reason, and one that may."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice = nn.Conv2d(3, 3, 1)
        self.norm_of_read_twice = nn.BatchNorm2d(3)
        self.called_twice = nn.Conv2d(3, 3, 1)
        self.norm_a = nn.BatchNorm2d(3)
        self.norm_b = nn.BatchNorm2d(3)
        self.activated = nn.Conv2d(3, 3, 1)
        self.norm_of_activated = nn.BatchNorm2d(3)
        self.returned = nn.Conv2d(3, 3, 1)
        self.norm_of_returned = nn.BatchNorm2d(3)
        self.plain = nn.Conv2d(3, 3, 1)
        self.norm_of_plain = nn.BatchNorm2d(3, affine=False)
        self.without_statistics = nn.BatchNorm2d(3, track_running_stats=False)
        self.twice = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.read_twice(x)
        x = self.norm_of_read_twice(x) * (x > 0)
        x = self.norm_b(self.called_twice(self.norm_a(self.called_twice(x))))
        x = self.norm_of_activated(torch.relu_(self.activated(x)))
        returned = self.returned(x)
        x = self.norm_of_plain(self.plain(self.norm_of_returned(returned)))
        x = self.without_statistics(self.plain_again(x))
        return {"x": self.twice(self.twice(x)), "returned": returned}

    def plain_again(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_folded_network_gives_the_same_outputs(name: str) -> None:
    module, example = built(name)
    folded = fold_batchnorm(module, example)
    inputs = randomised(example, 5)
    for want, got in zip(outputs(module, inputs), outputs(folded, inputs), strict=True):
        assert torch.allclose(want, got, rtol=1e-4, atol=1e-5)
    assert not any(part.training for part in folded.modules())


def test_layers_keep_their_names_and_batch_norms_become_identities() -> None:
    module, example = built("residual")
    folded = fold_batchnorm(module, example)
    assert norms_left(folded) == []
    assert [name for name, _ in folded.named_modules()] == [name for name, _ in module.named_modules()]
    assert isinstance(folded.get_submodule("stem_bn"), nn.Identity)
    assert folded.get_submodule("stem").bias is not None
    assert module.stem.bias is None
    assert norms_left(module) == ["stem_bn", "inner_bn", "outer_bn"]


def test_only_a_batch_norm_that_alone_reads_a_layer_called_once_is_folded() -> None:
    torch.manual_seed(0)
    module = Branching().eval()
    for name in norms_left(module):
        norm: Any = module.get_submodule(name)
        if norm.running_mean is not None:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    folded = fold_batchnorm(module, (torch.zeros(1, 3, 4, 4),))
    assert set(norms_left(module)) - set(norms_left(folded)) == {"norm_of_plain"}
    inputs = (torch.randn(2, 3, 4, 4),)
    for want, got in zip(outputs(module, inputs), outputs(folded, inputs), strict=True):
        assert torch.allclose(want, got, atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Linear(5, 4), nn.BatchNorm1d(4), (3, 5)),
        (nn.Conv1d(5, 4, 3, bias=False), nn.BatchNorm1d(4), (2, 5, 7)),
        (nn.Conv3d(2, 4, 1), nn.BatchNorm3d(4), (2, 2, 3, 3, 3)),
        (nn.ConvTranspose2d(5, 4, 2, stride=2), nn.BatchNorm2d(4), (2, 5, 3, 3)),
        (nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8, eps=0.1), (2, 4, 5, 5)),
    ],
    ids=["linear", "conv1d", "conv3d", "transposed", "grouped"],
)
def test_every_kind_of_layer_is_folded(layer: nn.Module, norm: Any, shape: tuple[int, ...]) -> None:
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    module = nn.Sequential(layer, norm).eval()
    folded = fold_batchnorm(module, (torch.zeros(shape),))
    assert norms_left(folded) == []
    inputs = (torch.randn(shape),)
    assert torch.allclose(outputs(module, inputs)[0], outputs(folded, inputs)[0], atol=1e-5)


def test_batch_norm_over_the_tokens_of_a_linear_layer_is_left() -> None:
    folded = fold_batchnorm(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), (torch.randn(1, 4, 5),))
    assert norms_left(folded) == ["1"]


def test_a_layer_that_computes_its_weight_is_left() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))
    assert norms_left(fold_batchnorm(nn.Sequential(layer, nn.BatchNorm1d(4)), (torch.randn(2, 5),))) == ["1"]


class Doubled(nn.Conv2d):
    """Gives another image than its weight and bias say."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) * 2


class Unbiased(nn.Conv2d):
    """Ignores the bias it is given."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self._conv_forward(input, self.weight, None)
        return image


class SamePadded(nn.Conv2d):
    """Pads the image unevenly first, as TensorFlow does."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.pad(input, (0, 1, 0, 1)))


@pytest.mark.parametrize(("layer", "left"), [(Doubled, ["1"]), (Unbiased, ["1"]), (SamePadded, [])])
def test_a_subclass_with_its_own_forward_is_folded_if_that_gives_the_same(
    layer: type[nn.Conv2d], left: list[str]
) -> None:
    norm = nn.BatchNorm2d(4)
    nn.init.constant_(norm.running_mean, 0.5)  # type: ignore[arg-type]  # it has statistics
    nn.init.constant_(norm.bias, 0.25)
    module = nn.Sequential(layer(3, 4, 3), norm).eval()
    image = torch.randn(1, 3, 6, 6)
    folded = fold_batchnorm(module, (image,))
    assert norms_left(folded) == left
    assert torch.allclose(folded(image), module(image), atol=1e-5)


def test_a_layer_with_its_own_forward_that_is_called_by_keyword_is_left() -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = SamePadded(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            image: torch.Tensor = self.norm(self.conv(input=x))
            return image

    assert norms_left(fold_batchnorm(Keyword(), (torch.randn(1, 3, 6, 6),))) == ["norm"]


def test_inputs_that_do_not_fit_are_named() -> None:
    module, _ = built("residual")
    with pytest.raises(InputShapeError, match=r"does not run on inputs \(1, 3\) float32"):
        fold_batchnorm(module, (torch.zeros(1, 3),))
