"""The data sets by name."""

from pathlib import Path

from tvm_prune.models.datasets.cifar import read_jpeg_archive
from tvm_prune.models.datasets.dataset import Augment, DataSet, hold_out

__all__ = ["load_data"]


def load_data(name: str, *, data_dir: Path | None = None, seed: int = 0, val_count: int | None = None) -> DataSet:
    """Load data set `name`."""
    assert data_dir is not None
    train, test = read_jpeg_archive(data_dir / "cifar10_jpegbytes.npz")
    train, val = hold_out(train, val_count or 5000, seed=seed)
    return DataSet(
        name=name, train=train, val=val, test=test, num_classes=10, mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616), augment=Augment(pad=4, flip=True),
    )
