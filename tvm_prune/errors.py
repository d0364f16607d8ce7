"""Every error that tvm_prune raises on purpose.

    TvmPruneError
    ├── ConfigError (ValueError)         a setting is unknown or out of range
    ├── ModelError (ValueError)          a model cannot be loaded, exported or run
    │   ├── ExportError                  torch.export refuses the model
    │   ├── InputShapeError              inputs do not fit the model
    │   ├── UnsupportedOperatorError     the compiler has no converter for an operator
    │   └── UnlinkedLayerError           a weighted layer is missing from the compiled tasks
    ├── DataError (ValueError)           a data set is missing, broken or unknown
    ├── PruningError (ValueError)        channels cannot be removed as asked
    ├── RecipeError (ValueError)         a recipe does not fit the model or is corrupt
    ├── WeightsError (ValueError)        a weights file does not fit the model or is corrupt
    ├── TargetError (ValueError)         a target string or JSON cannot be understood
    ├── RecordsError (ValueError)        tuning records are missing, corrupt or foreign
    ├── JournalError (ValueError)        a run folder's journal is corrupt or of another run
    ├── GoalError (ValueError)           an accuracy or latency goal cannot be met
    ├── ReplayError (LookupError)        a replayed oracle was asked for what it never measured
    ├── ToolchainError (RuntimeError)    compiler, linker or a worker process is not usable
    ├── ParityError (RuntimeError)       the compiled module disagrees with torch
    ├── VersionError (RuntimeError)      an installed package is not the tested version
    └── DiskFullError (OSError)          a file could not be written

A failed build or measurement of one candidate is a value (`Failure` in oracle/cost.py), not an exception: the errors
here mean that going on makes no sense until the user changes something. Each message says what was asked, what was
found and what to type next.
"""

__all__ = [
    "ConfigError",
    "DataError",
    "DiskFullError",
    "ExportError",
    "GoalError",
    "InputShapeError",
    "JournalError",
    "ModelError",
    "ParityError",
    "PruningError",
    "RecipeError",
    "RecordsError",
    "ReplayError",
    "TargetError",
    "ToolchainError",
    "TvmPruneError",
    "UnlinkedLayerError",
    "UnsupportedOperatorError",
    "VersionError",
    "WeightsError",
]


class TvmPruneError(Exception):
    """Base of every error raised on purpose; the command line prints it without a traceback."""


class ConfigError(TvmPruneError, ValueError):
    """A setting is unknown or out of range."""


class ModelError(TvmPruneError, ValueError):
    """A model cannot be loaded, exported or run."""


class ExportError(ModelError):
    """torch.export refuses the model."""


class InputShapeError(ModelError):
    """The inputs do not fit the model."""


class UnsupportedOperatorError(ModelError):
    """The compiler has no converter for an operator of the model."""


class UnlinkedLayerError(ModelError):
    """A weighted layer does not appear in any compiled task."""


class DataError(TvmPruneError, ValueError):
    """A data set is missing, broken or unknown."""


class PruningError(TvmPruneError, ValueError):
    """Channels cannot be removed as asked."""


class RecipeError(TvmPruneError, ValueError):
    """A recipe does not fit the model or is corrupt."""


class QuantizationError(ModelError):
    """A model cannot be brought to integers: no calibration data, values that are not finite, a sum that overflows."""


class WeightsError(TvmPruneError, ValueError):
    """A weights file does not fit the model or is corrupt."""


class TargetError(TvmPruneError, ValueError):
    """A target string or JSON cannot be understood."""


class RecordsError(TvmPruneError, ValueError):
    """Tuning records are missing, corrupt or foreign."""


class JournalError(TvmPruneError, ValueError):
    """A run folder's journal is corrupt or belongs to another run."""


class GoalError(TvmPruneError, ValueError):
    """An accuracy or latency goal cannot be met."""


class ReplayError(TvmPruneError, LookupError):
    """A replayed oracle was asked for what it never measured."""


class ToolchainError(TvmPruneError, RuntimeError):
    """The compiler, the linker or a worker process is not usable."""


class ParityError(TvmPruneError, RuntimeError):
    """The compiled module disagrees with torch."""


class VersionError(TvmPruneError, RuntimeError):
    """An installed package is not the tested version."""


class DiskFullError(TvmPruneError, OSError):
    """A file could not be written."""
