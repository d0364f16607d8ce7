"""Batches: what augmentation may do to an image, and what order the seed gives."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import few
from tests.models.small import noise_data
from tvm_prune.models.datasets.batches import TrainBatches, augmented, normalised
from tvm_prune.models.datasets.dataset import Augment


@settings(max_examples=few(25))
@given(seed=st.integers(0, 1000), pad=st.integers(0, 3), flip=st.booleans())
def test_an_augmented_image_is_a_shifted_perhaps_mirrored_one(seed: int, pad: int, flip: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(1, 256, (4, 3, 6, 5), generator=generator).to(torch.uint8)
    result = augmented(images, Augment(pad=pad, flip=flip), generator=generator)
    assert result.shape == images.shape
    assert result.dtype == torch.uint8
    padded = torch.nn.functional.pad(images, (pad,) * 4)
    for before, after in zip(padded, result, strict=True):
        shifts = [
            before[:, top : top + 6, left : left + 5] for top in range(2 * pad + 1) for left in range(2 * pad + 1)
        ]
        if flip:
            shifts += [shift.flip(-1) for shift in shifts]
        assert any(torch.equal(after, shift) for shift in shifts)


def test_augmentation_treats_each_image_on_its_own() -> None:
    image = torch.arange(36).to(torch.uint8).view(1, 1, 6, 6)
    result = augmented(image.repeat(64, 1, 1, 1), Augment(pad=2, flip=True), generator=torch.Generator().manual_seed(0))
    assert len({tuple(item.flatten().tolist()) for item in result}) > 20


def test_normalised_bytes_have_the_mean_and_deviation_asked_for() -> None:
    data = noise_data(8, mean=(0.25, 0.5, 0.75), std=(0.5, 0.25, 0.125))
    inputs = normalised(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8), data)
    torch.testing.assert_close(inputs[0, :, 0, 0], torch.tensor([1.5, 2.0, 2.0]))
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_draws_every_image_once_and_the_next_in_another_order() -> None:
    data = noise_data(24, augment=Augment(pad=0, flip=False))
    batches = TrainBatches(data.train, data, batch_size=8, seed=0)
    assert len(batches) == 3
    orders = []
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        orders.append(torch.cat([inputs for inputs, _ in batches]).flatten(1))
    everything = normalised(data.train.images, data).flatten(1)
    for order in orders:
        assert torch.equal(order.sort(dim=0).values, everything.sort(dim=0).values)
    assert not torch.equal(*orders)


def test_an_incomplete_last_batch_is_left_out_unless_it_is_the_only_one() -> None:
    data = noise_data(20)
    assert [len(labels) for _, labels in TrainBatches(data.train, data, batch_size=8, seed=0)] == [8, 8]
    assert [len(labels) for _, labels in TrainBatches(data.train, data, batch_size=64, seed=0)] == [20]
