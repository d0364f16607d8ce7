"""Top-1 is counted right whatever the batches, and the module is left as it was."""

import pytest
import torch
from torch import nn

from tests.models.small import bright_data, noise_data, tiny_net
from tvm_prune.errors import DataError, ModelError
from tvm_prune.models.evaluate import Score, evaluate, predictions


class _KnowsAll(nn.Module):
    """Answers from the first pixel's red value, which `_labelled` makes equal to the label."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([-x[:, 0, 0, 0], x[:, 0, 0, 0]], dim=1)


@pytest.mark.parametrize("batch_size", [1, 7, 20, 500])
def test_every_image_is_counted_once_in_batches_of_any_size(batch_size: int) -> None:
    data = noise_data(20)
    data.test.images[:, 0, 0, 0] = (255 * data.test.labels).to(torch.uint8)
    wrong = data.test.labels.clone()
    wrong[:3] = 1 - wrong[:3]
    split = type(data.test)(data.test.images, wrong)
    assert evaluate(_KnowsAll(), split, data, batch_size) == Score(correct=17, total=20)


def test_predictions_do_not_depend_on_the_batch_size() -> None:
    data = noise_data(13)
    module = tiny_net()
    assert torch.equal(predictions(module, data.val, data, 1), predictions(module, data.val, data, 13))


def test_a_module_in_training_mode_is_scored_in_eval_mode_and_put_back() -> None:
    data = bright_data(16)
    module = tiny_net().train()
    before = module.state_dict()["1.running_mean"].clone()
    first = predictions(module, data.val, data)
    assert module.training
    assert torch.equal(module.state_dict()["1.running_mean"], before)
    assert torch.equal(first, predictions(module.eval(), data.val, data))


def test_a_score_prints_both_counts_and_the_percentage() -> None:
    assert str(Score(correct=912, total=1000)) == "912 of 1000 (91.20 %)"


def test_an_empty_split_is_refused() -> None:
    data = noise_data(4)
    with pytest.raises(DataError, match="holds no images"):
        evaluate(tiny_net(), data.test.take(torch.arange(0)), data)


def test_an_output_that_is_no_table_of_logits_is_refused() -> None:
    data = noise_data(4)
    with pytest.raises(ModelError, match=r"must return one tensor \[images, classes\].*\[4, 3, 8, 8\]"):
        evaluate(nn.Identity(), data.test, data)


def test_too_few_classes_say_how_many_are_needed() -> None:
    data = noise_data(4, num_classes=5)
    with pytest.raises(ModelError, match=r"tells 2 classes apart, noise has 5: build it with --num-classes 5"):
        evaluate(tiny_net(), data.test, data)
