"""One compiler oracle for all tests of this folder: its workers start once, its records serve every test."""

import os
from collections.abc import Iterator

import pytest

from tests.oracle.quick import BENCH, TUNING
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.target import Target

# Before the first launch in this process: parallel loops really run on two threads.
os.environ.setdefault("TVM_NUM_THREADS", "2")


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CompilerOracle]:
    """A real oracle of this machine with a few trials a task and short readings."""
    folder = tmp_path_factory.mktemp("records")
    with CompilerOracle(Target.local(threads=2), records_folder=folder, tuning=TUNING, bench=BENCH) as made:
        yield made
