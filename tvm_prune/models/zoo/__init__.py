"""Networks that ship with the package; one family a file."""

from tvm_prune.models.zoo.entry import ZooEntry
from tvm_prune.models.zoo.registry import ZOO, build

__all__ = ["ZOO", "ZooEntry", "build"]
