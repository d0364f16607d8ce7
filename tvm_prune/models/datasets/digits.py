"""The embedded default: 1,797 handwritten digits of 8x8 pixels that come with scikit-learn, enlarged to 32x32.

Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository.
"""

import torch
from torch.nn import functional

from tvm_prune.errors import DataError
from tvm_prune.models.datasets.dataset import Split, hold_out

__all__ = ["TEST_IMAGES", "read_digits"]

TEST_IMAGES = 600
# The test images are the same whatever the run's seed, so that runs can be compared on them.
_TEST_SEED = 0


def read_digits() -> tuple[Split, Split]:
    """Return the (train, test) splits of 1,197 and 600 images, 3 equal channels of 32x32, each digit in proportion."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "the digits come with scikit-learn, which is not installed: pip install scikit-learn"
        ) from error
    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float().unsqueeze(1) * (255 / 16)
    large = functional.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)
    images = large.round().clamp(0, 255).to(torch.uint8).repeat(1, 3, 1, 1)
    everything = Split(images, torch.from_numpy(bunch.target).to(torch.int64))
    return hold_out(everything, TEST_IMAGES, seed=_TEST_SEED)
