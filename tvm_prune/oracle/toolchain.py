"""Is what the oracle stands on there: the tested TVM pair, a linker, enough of everything?"""

import importlib.metadata
import shutil
from dataclasses import dataclass

from tvm_prune.errors import ToolchainError, VersionError

__all__ = ["TVM_PINS", "Check", "check_toolchain", "require_toolchain", "tvm_version"]

# With apache-tvm-ffi 0.1.15 every tuning run and every save_json segfaults, although apache-tvm 0.27 admits it.
TVM_PINS = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.14.post1"}
_LINKERS = ("g++", "clang++", "c++")


@dataclass(frozen=True)
class Check:
    """One line of the doctor's list."""

    name: str
    good: bool
    found: str
    advice: str = ""


def tvm_version() -> str:
    """Return the installed TVM version."""
    return importlib.metadata.version("apache-tvm")


def check_toolchain() -> tuple[Check, ...]:
    """Return every check, good or not; nothing is imported or raised."""
    checks = []
    for package, pin in TVM_PINS.items():
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found = "not installed"
        checks.append(Check(package, found == pin, found, f"pip install {package}=={pin}"))
    linker = next((path for name in _LINKERS if (path := shutil.which(name))), None)
    checks.append(
        Check(
            "linker",
            linker is not None,
            linker or "none of " + ", ".join(_LINKERS),
            "install g++ (Debian: apt-get install g++)",
        )
    )
    return tuple(checks)


def require_toolchain() -> None:
    """Raise VersionError or ToolchainError for the first check that fails."""
    for check in check_toolchain():
        if check.good:
            continue
        kind = VersionError if check.name in TVM_PINS else ToolchainError
        raise kind(f"{check.name}: found {check.found}, which tvm_prune does not work with; type: {check.advice}")
