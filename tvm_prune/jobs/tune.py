"""Tune one model and read its program table."""

from tvm_prune.errors import ModelError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.models.load import Model
from tvm_prune.oracle.base import CostOracle
from tvm_prune.oracle.cost import Failure
from tvm_prune.oracle.table import ProgramTable

__all__ = ["compressed", "tune"]


def compressed(model: Model | CompressedModel) -> CompressedModel:
    """Return a loaded model as the value that the layers pass on, nothing compressed yet."""
    if isinstance(model, CompressedModel):
        return model
    return CompressedModel(module=model.module, example_inputs=model.example_inputs)


def tune(model: Model | CompressedModel, oracle: CostOracle) -> ProgramTable:
    """Tune what has no record yet and return the program table. Raises ModelError if the model cannot be built."""
    table = oracle.table(compressed(model))
    if isinstance(table, Failure):
        raise ModelError(f"the model cannot be tuned; it fails at the stage {table.stage!r}: {table.message}")
    return table
