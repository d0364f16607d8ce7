"""The embedded digits: as many as promised, in the range of bytes, the same test images for every seed."""

import torch

from tvm_prune.models.datasets import load_data


def test_digits_are_997_to_train_200_to_decide_and_600_to_report() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.val), len(data.test)) == (997, 200, 600)
    assert data.input_shape == (3, 32, 32)
    assert int(data.train.images.max()) == 255
    assert data.test.labels.bincount().min() >= 55


def test_the_seed_moves_validation_images_and_never_test_images() -> None:
    first, again, other = load_data("digits"), load_data("digits"), load_data("digits", seed=1)
    assert torch.equal(first.val.images, again.val.images)
    assert not torch.equal(first.val.images, other.val.images)
    assert torch.equal(first.test.images, other.test.images)


def test_the_declared_mean_and_deviation_are_those_of_the_training_images() -> None:
    data = load_data("digits")
    pixels = data.train.images.float() / 255
    assert abs(float(pixels.mean()) - data.mean[0]) < 0.01
    assert abs(float(pixels.std()) - data.std[0]) < 0.01
