"""The set-up is checked before anything is compiled."""

import importlib.metadata
import shutil

import pytest

from tvm_prune.errors import ToolchainError, VersionError
from tvm_prune.oracle.toolchain import TVM_PINS, check_toolchain, require_toolchain, tvm_version


def test_this_machine_passes() -> None:
    assert [check.name for check in check_toolchain()] == [*TVM_PINS, "linker"]
    require_toolchain()
    assert tvm_version() == TVM_PINS["apache-tvm"]


@pytest.mark.parametrize("package", TVM_PINS)
def test_another_version_is_refused_and_the_tested_one_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == package else real(name))
    with pytest.raises(VersionError, match=rf"{package}: found 9.9.*pip install {package}=={TVM_PINS[package]}"):
        require_toolchain()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(VersionError, match=r"apache-tvm: found not installed.*pip install apache-tvm=="):
        require_toolchain()


def test_no_linker_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolchainError, match=r"linker: found none of g\+\+, clang\+\+, c\+\+.*apt-get install g\+\+"):
        require_toolchain()
