"""Data sets by name, all in memory as bytes."""

from tvm_prune.models.datasets.dataset import Augment, DataSet, Split
from tvm_prune.models.datasets.registry import load_data

__all__ = ["Augment", "DataSet", "Split", "load_data"]
