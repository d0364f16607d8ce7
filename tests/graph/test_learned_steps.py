"""A network that is trained with rounding: computes what the rounded one does, and its steps learn."""

import pytest
import torch
from torch import nn

from tvm_prune.compress.calibrate import observe
from tvm_prune.compress.quantize import with_precision
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.learned_steps import learning_module, with_learned
from tvm_prune.graph.scheme import INT8, Scheme
from tvm_prune.graph.stored_tensors import reference_module


class Residual(nn.Module):
    """Two convolutions with a batch norm each, an addition and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.head = nn.Linear(8 * 36, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.first(image)
        x = torch.relu(self.second(x) + x)
        logits: torch.Tensor = self.head(x.view(x.size(0), -1))
        return logits


def rounded(*formats: str) -> CompressedModel:
    torch.manual_seed(0)
    model = CompressedModel(module=Residual().eval(), example_inputs=(torch.randn(1, 3, 6, 6),))
    layers = ("first.0", "second.0", "head")
    seen = observe(model, layers, [torch.randn(32, 3, 6, 6)])
    return with_precision(model, dict(zip(layers, map(Scheme.parse, formats), strict=True)), seen)


@pytest.mark.parametrize("formats", [("int8", "w3a4", "int8"), ("fixed8.5", "w1a6", "w4"), ("float32", "w2a2", "int8")])
def test_before_training_it_computes_what_the_rounded_network_does(formats: tuple[str, ...]) -> None:
    model = rounded(*formats)
    image = torch.randn(16, 3, 6, 6)
    with torch.no_grad():
        learning, reference = learning_module(model)(image), reference_module(model, any_batch=True)(image)
    # Divided by a step here, multiplied by its inverse there: some values between two integers fall the other way.
    assert float((learning - reference).abs().mean()) < 0.02 * float(reference.abs().mean())


def test_gradients_reach_weights_and_steps() -> None:
    module = learning_module(rounded("int8", "w3a4", "int8"))
    module(torch.randn(16, 3, 6, 6)).square().sum().backward()
    grown = {name for name, value in module.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0}
    assert grown == dict(module.named_parameters()).keys()
    assert sum("tvm_prune_weight_" in name for name in grown) == 1  # weights of 8 bits need none
    assert sum("tvm_prune_tensor_" in name for name in grown) == 3


def test_steps_of_fixed_point_stay_as_they_are() -> None:
    module = learning_module(rounded("fixed8.5", "fixed6.3", "fixed8.4"))
    steps = [value for name, value in module.named_parameters() if "tvm_prune_" in name]
    assert len(steps) == 6
    assert not any(value.requires_grad for value in steps)


def test_what_was_learned_is_what_the_rounded_network_then_computes() -> None:
    model = rounded("int8", "w3a4", "w4a8")
    module = learning_module(model)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    image, labels = torch.randn(64, 3, 6, 6), torch.randint(4, (64,))
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(module(image.contiguous(memory_format=torch.channels_last)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    learned = with_learned(model, module)
    assert learned.precision == model.precision
    assert learned.stored != model.stored
    assert learned.weight_scales.keys() == model.weight_scales.keys()
    with torch.no_grad():
        result, wanted = reference_module(learned, any_batch=True)(image), module(image)
    assert float((result - wanted).abs().mean()) < 0.02 * float(wanted.abs().mean())
    # The model that was rounded first keeps its weights.
    assert not torch.equal(model.module.get_parameter("head.weight"), learned.module.get_parameter("head.weight"))
    assert learned.precision["first.0"] == INT8


def test_a_step_does_not_get_lost_below_zero() -> None:
    model = rounded("int8", "w3a4", "int8")
    module = learning_module(model)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if name.endswith(".steps"):
                value.fill_(-1.0)
    learned = with_learned(model, module)
    for name, how in learned.stored.items():
        assert how.scale == pytest.approx(0.01 * model.stored[name].scale)
