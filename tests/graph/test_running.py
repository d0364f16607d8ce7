"""Running a module for analysis leaves it as it was and reaches every channel."""

import torch

from tests.graph.networks import built
from tvm_prune.graph.running import analysis_copy, copy_module, evaluating, random_like, tensors_of


def test_evaluating_gives_every_part_its_flag_back() -> None:
    module, _ = built("residual")
    module.train()
    module.stem_bn.eval()
    with evaluating(module):
        assert not any(part.training for part in module.modules())
    assert [name for name, part in module.named_modules() if not part.training] == ["stem_bn"]


def test_floating_inputs_become_random_and_others_stay() -> None:
    given = (torch.zeros(2, 3, dtype=torch.bfloat16), torch.tensor([4, 5]))
    floats, integers = random_like(given)
    assert floats.dtype == torch.bfloat16
    assert floats.shape == (2, 3)
    assert floats.abs().min() > 0
    assert integers is given[1]
    assert torch.equal(random_like(given)[0], floats)


def test_a_copy_has_no_gradients_and_an_analysis_copy_can_have_all() -> None:
    module, inputs = built("residual")
    module.requires_grad_(False)
    module.fc.requires_grad_(True)
    module(*inputs).sum().backward()
    assert all(parameter.grad is None for parameter in copy_module(module).parameters())
    assert not copy_module(module).get_parameter("stem.weight").requires_grad
    assert all(parameter.requires_grad for parameter in analysis_copy(module.train()).parameters())
    assert not analysis_copy(module).training


def test_tensors_are_found_in_nested_outputs_in_order() -> None:
    one, two, three = torch.zeros(3).unbind()
    assert [id(value) for value in tensors_of({"a": one, "b": [two, (three, 4)], "c": None})] == [
        id(value) for value in (one, two, three)
    ]
