"""tvm_prune: prune, compress and tune a network by what it costs once compiled on the device it will run on.

The names below are what most programs need; each is loaded on first use, so that importing the package loads neither
torch nor the compiler.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm_prune.errors import TvmPruneError
    from tvm_prune.jobs.apply import load_pruned
    from tvm_prune.jobs.cprune import CPruneJob, Pruned, cprune
    from tvm_prune.jobs.doctor import diagnose
    from tvm_prune.jobs.export import bundler, export
    from tvm_prune.jobs.number_formats import QuantizeSettings, rounding_training
    from tvm_prune.jobs.planned import make_plan
    from tvm_prune.jobs.precision import FormatSearch, PrecisionSettings, precision
    from tvm_prune.jobs.quantize import Quantized, quantize
    from tvm_prune.jobs.train import train_to_file, training
    from tvm_prune.jobs.tune import tune
    from tvm_prune.models.datasets import load_data
    from tvm_prune.models.evaluate import evaluate
    from tvm_prune.models.load import load_model
    from tvm_prune.oracle.bundle import run_bundle
    from tvm_prune.oracle.compiler import CompilerOracle
    from tvm_prune.oracle.target import Target
    from tvm_prune.search.budget import Budget
    from tvm_prune.search.fidelity import FidelityQuality
    from tvm_prune.search.quality import UserQuality
    from tvm_prune.search.settings import CPruneSettings, preset
    from tvm_prune.search.uniform import UniformSettings

__all__ = [
    "Budget",
    "CPruneJob",
    "CPruneSettings",
    "CompilerOracle",
    "FidelityQuality",
    "FormatSearch",
    "PrecisionSettings",
    "Pruned",
    "QuantizeSettings",
    "Quantized",
    "Target",
    "TvmPruneError",
    "UniformSettings",
    "UserQuality",
    "__version__",
    "bundler",
    "cprune",
    "diagnose",
    "evaluate",
    "export",
    "load_data",
    "load_model",
    "load_pruned",
    "make_plan",
    "precision",
    "preset",
    "quantize",
    "rounding_training",
    "run_bundle",
    "train_to_file",
    "training",
    "tune",
]

__version__ = "0.1.0"

_HOME = {
    "Budget": "search.budget",
    "CPruneJob": "jobs.cprune",
    "CPruneSettings": "search.settings",
    "CompilerOracle": "oracle.compiler",
    "FormatSearch": "jobs.precision",
    "PrecisionSettings": "jobs.precision",
    "Pruned": "jobs.cprune",
    "QuantizeSettings": "jobs.number_formats",
    "Quantized": "jobs.quantize",
    "Target": "oracle.target",
    "TvmPruneError": "errors",
    "UniformSettings": "search.uniform",
    "FidelityQuality": "search.fidelity",
    "UserQuality": "search.quality",
    "bundler": "jobs.export",
    "cprune": "jobs.cprune",
    "diagnose": "jobs.doctor",
    "evaluate": "models.evaluate",
    "export": "jobs.export",
    "load_data": "models.datasets",
    "load_model": "models.load",
    "load_pruned": "jobs.apply",
    "make_plan": "jobs.planned",
    "precision": "jobs.precision",
    "preset": "search.settings",
    "quantize": "jobs.quantize",
    "rounding_training": "jobs.number_formats",
    "run_bundle": "oracle.bundle",
    "train_to_file": "jobs.train",
    "training": "jobs.train",
    "tune": "jobs.tune",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
