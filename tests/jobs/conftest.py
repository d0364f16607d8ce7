"""A trained LeNet-5 on a few digits, and a job that ends within seconds."""

from dataclasses import replace
from pathlib import Path

import pytest

from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.cprune import CPruneJob, Pruned, cprune
from tvm_prune.jobs.train import training
from tvm_prune.models.datasets import DataSet, load_data
from tvm_prune.models.load import Model, load_model
from tvm_prune.models.train import train
from tvm_prune.oracle.fake import LinearOracle
from tvm_prune.search.settings import CPruneSettings
from tvm_prune.search.uniform import UniformSettings

JOB = CPruneJob(
    settings=CPruneSettings(
        alpha=0.9,
        accuracy_drop=0.1,
        max_iterations=2,
        bite=0.2,
        short_term_steps=5,
        final_steps=10,
        batch_size=64,
    ),
    uniform=UniformSettings(ratios=(0.75, 0.5, 0.25), roundings=(8,)),
    target="linear",
)


@pytest.fixture(scope="session")
def digits() -> DataSet:
    return load_data("digits")


@pytest.fixture(scope="session")
def lenet(digits: DataSet) -> Model:
    model = load_model("lenet5")
    trained = train(model.module, digits, training("digits", epochs=6))
    return replace(model, module=trained.module)


def no_bundle(model: CompressedModel, folder: Path) -> float:
    """Stand in for the compiler."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "module").write_text(type(model.module).__name__)
    return 1e-6


@pytest.fixture(scope="session")
def pruned(lenet: Model, digits: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Pruned:
    out = tmp_path_factory.mktemp("run")
    return cprune(lenet, digits, LinearOracle(lanes=4), out=out, bundle=no_bundle, job=JOB)
