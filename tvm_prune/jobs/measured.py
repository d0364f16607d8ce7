"""What the compiled dense and final models cost, measured once and kept."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from tvm_prune.codec import STRICT, decode, dumps
from tvm_prune.errors import ConfigError, ToolchainError
from tvm_prune.files import write_atomically
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.oracle.base import CostOracle
from tvm_prune.oracle.cost import Failure, Ratio
from tvm_prune.oracle.table import ProgramTable

__all__ = ["Measured", "measure"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Both tables, and pruned over dense."""

    dense: ProgramTable
    pruned: ProgramTable
    ratio: Ratio
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class _Kept:
    models: tuple[str, str]
    trials_per_task: int
    measured: Measured
    __pydantic_config__ = STRICT


def measure(
    oracle: CostOracle, dense: CompressedModel, pruned: CompressedModel, *, trials_per_task: int, path: Path
) -> Measured:
    """Return the tables of both models and their ratio, read back from `path` if it holds those of the same models.

    `trials_per_task` is how deep the oracle tunes. Raises ToolchainError if one of them cannot be measured any more.
    """
    models = (fingerprint(dense), fingerprint(pruned))
    known = _kept(path)
    if known is not None and (known.models, known.trials_per_task) == (models, trials_per_task):
        return known.measured
    before, after = oracle.table(dense), oracle.table(pruned)
    ratio = oracle.compare(dense, pruned)
    for answer in (before, after, ratio):
        if isinstance(answer, Failure):
            raise ToolchainError(
                f"the result could not be measured ({answer.stage}: {answer.message}); it was measured during the "
                f"search, so start the same command again: only this is repeated"
            )
    assert isinstance(before, ProgramTable)
    assert isinstance(after, ProgramTable)
    assert isinstance(ratio, Ratio)
    found = Measured(dense=before, pruned=after, ratio=ratio)
    write_atomically(path, dumps(_Kept(models=models, trials_per_task=trials_per_task, measured=found)) + "\n")
    return found


def _kept(path: Path) -> _Kept | None:
    if not path.exists():
        return None
    try:
        return decode(_Kept, json.loads(path.read_text()))
    except (ConfigError, json.JSONDecodeError, UnicodeDecodeError) as error:
        logger.warning("%s cannot be used (%s): the result is measured again", path, error)
        return None
