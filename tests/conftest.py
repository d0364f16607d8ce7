"""What every test needs: one thread per library, a drawing back end without a display, golden texts."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch, numpy or matplotlib start: two cores are shared by everything that runs beside the tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# What an earlier run of the tests compiled must not stand in for what this one should compile.
os.environ["TVM_PRUNE_CACHE"] = ""

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several test processes share the machine; with one machine-wide lock each would wait for the others' measurements.
    _temporary = tempfile.TemporaryDirectory(prefix="tvm_prune-tests-")
    os.environ["TMPDIR"] = tempfile.tempdir = _temporary.name

# Whether a change is right must not hang on the draw: property tests draw the same examples every time. `make fuzz`
# draws others, many more of them.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None, derandomize=False, max_examples=2000, print_blob=True)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden texts from what the code prints")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Return ``check(name, text)``: `text` must equal the file golden/`name` beside the test."""

    def check(name: str, text: str) -> None:
        path = Path(request.path).parent / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"no golden text {path}; run pytest --update-golden and review the file"
        assert text == path.read_text(), f"differs from {path}; if the change is meant, run pytest --update-golden"

    return check
