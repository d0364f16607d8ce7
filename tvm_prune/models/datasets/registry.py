"""The data sets by name."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from tvm_prune.errors import DataError
from tvm_prune.models.datasets.cifar import CIFAR10, CIFAR100, Cifar, looked_for, read_cifar
from tvm_prune.models.datasets.dataset import Augment, DataSet, Split, hold_out
from tvm_prune.models.datasets.digits import read_digits
from tvm_prune.models.datasets.fashion import DEBIAN_FOLDER, FILES, REMOTES, read_fashion
from tvm_prune.models.datasets.folder import read_folder
from tvm_prune.models.datasets.sources import download as fetch
from tvm_prune.models.datasets.sources import standard_folder

__all__ = ["DATA_SETS", "load_data"]


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What does not depend on the files; 0 classes = as many as there are folders, val_count 0 = a tenth."""

    num_classes: int
    val_count: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augment: Augment
    summary: str


DATA_SETS: dict[str, _Facts] = {
    "digits": _Facts(
        num_classes=10,
        val_count=200,
        mean=(0.3053,) * 3,
        std=(0.3300,) * 3,
        augment=Augment(pad=2, flip=False),
        summary="1,797 digits from scikit-learn, enlarged to 32x32; nothing to download",
    ),
    "fashion-mnist": _Facts(
        num_classes=10,
        val_count=5000,
        mean=(0.2190,) * 3,
        std=(0.3318,) * 3,
        augment=Augment(pad=2, flip=True),
        summary="70,000 grey pictures of clothes, padded to 32x32",
    ),
    "cifar10": _Facts(
        num_classes=10,
        val_count=5000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        augment=Augment(pad=4, flip=True),
        summary="60,000 colour photos of 32x32 in 10 classes",
    ),
    "cifar100": _Facts(
        num_classes=100,
        val_count=5000,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        augment=Augment(pad=4, flip=True),
        summary="60,000 colour photos of 32x32 in 100 classes",
    ),
    "image-folder": _Facts(
        num_classes=0,
        val_count=0,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        augment=Augment(pad=0, flip=True),
        summary="DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg, as ImageNet is kept",
    ),
}


def load_data(
    name: str,
    *,
    data_dir: Path | str | None = None,
    seed: int = 0,
    val_count: int | None = None,
    download: bool = False,
    limit: int | None = None,
    image_size: int | None = None,
) -> DataSet:
    """Return data set `name` in memory.

    `data_dir` holds its files (by default a folder of the user's cache; `digits` needs none) and receives a `download`.
    `val_count` training images, drawn from `seed` with each class in proportion, are held out for validation; the test
    images are always the same. `limit` keeps at most that many images of each split. `image_size` (224 by default) is
    for `image-folder` alone. Raises DataError saying which files were looked for, and where.
    """
    if name not in DATA_SETS:
        close = difflib.get_close_matches(name, DATA_SETS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise DataError(f"no data set {name!r}.{hint} Known are: {', '.join(DATA_SETS)}.")
    if image_size is not None and name != "image-folder":
        raise DataError(f"image_size is for image-folder; {name} always has 32x32 images. Leave it out.")
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1 image, got {limit}.")
    facts = DATA_SETS[name]
    folder = Path(data_dir) if data_dir is not None else standard_folder()
    train, test, num_classes = _read(name, folder, download=download, image_size=image_size or 224, limit=limit)
    if val_count is None:
        val_count = facts.val_count if 0 < facts.val_count < len(train) else max(1, len(train) // 10)
    train, val = hold_out(train, val_count, seed=seed)
    # Photos come in any size: shift them by the same eighth of the side as CIFAR's.
    augment = Augment(pad=train.images.shape[-1] // 8, flip=True) if name == "image-folder" else facts.augment
    return DataSet(
        name=name,
        train=_limited(train, limit),
        val=_limited(val, limit),
        test=_limited(test, limit),
        num_classes=num_classes,
        mean=facts.mean,
        std=facts.std,
        augment=augment,
    )


def _read(name: str, folder: Path, *, download: bool, image_size: int, limit: int | None) -> tuple[Split, Split, int]:
    facts = DATA_SETS[name]
    if name == "digits":
        return *read_digits(), facts.num_classes
    if name == "image-folder":
        return read_folder(folder, image_size=image_size, limit=limit)
    cifars = {"cifar10": CIFAR10, "cifar100": CIFAR100}
    found = _cifar(cifars[name], name, folder, download) if name in cifars else _fashion(folder, download)
    return *found, facts.num_classes


def _cifar(cifar: Cifar, name: str, folder: Path, download: bool) -> tuple[Split, Split]:
    found = read_cifar(cifar, folder)
    if found is None and download:
        fetch([cifar.remote], folder)
        found = read_cifar(cifar, folder)
    if found is None:
        raise DataError(
            f"no {name} in {folder}; looked for {looked_for(cifar)}. Name the folder that holds one of them with "
            f"--data-dir DIR, or fetch {cifar.remote.url} (162 MB) with --download."
        )
    return found


def _fashion(folder: Path, download: bool) -> tuple[Split, Split]:
    found = read_fashion(folder) or read_fashion(DEBIAN_FOLDER)
    if found is None and download:
        fetch(REMOTES, folder)
        found = read_fashion(folder)
    if found is None:
        raise DataError(
            f"no fashion-mnist in {folder} or {DEBIAN_FOLDER}; "
            f"looked for {', '.join(f'{file}[.gz]' for file in FILES)}. Name their folder with --data-dir DIR, "
            "install Debian's package dataset-fashion-mnist, or fetch them (30 MB) with --download."
        )
    return found


def _limited(split: Split, limit: int | None) -> Split:
    return split if limit is None or limit >= len(split) else hold_out(split, limit, seed=0)[1]
