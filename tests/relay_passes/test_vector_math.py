"""exp and erf as arithmetic: right over the whole range, special values included, and on vectors."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# The rules hold for a whole process, so the tests compile in one of their own.
_COMPUTE = """
import sys
sys.modules["torch"] = None  # `import tvm` would import it
import numpy as np, tvm
from tvm import relax
from relay_passes.vector_math import register_vector_math
from tests.relay_passes.graphs import unary_graph, run
register_vector_math()
values = np.load(sys.argv[2])
operator = {"exp": relax.op.exp, "sigmoid": relax.op.sigmoid, "tanh": relax.op.tanh, "erf": relax.op.erf}[sys.argv[1]]
np.save(sys.argv[3], run(unary_graph(values.shape, operator), values)[0])
"""


def computed(function: str, values: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "in.npy", values)
    command = [sys.executable, "-c", _COMPUTE, function, str(folder / "in.npy"), str(folder / "out.npy")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    return np.asarray(np.load(folder / "out.npy"))


def test_exp_is_right_wherever_the_result_is_a_normal_number(tmp_path: Path) -> None:
    values = np.linspace(-87.3, 88.3, 20_011, dtype=np.float32)
    exact = np.exp(values.astype(np.float64))
    assert np.abs(computed("exp", values, tmp_path) / exact - 1).max() < 3e-7


def test_exp_of_special_values(tmp_path: Path) -> None:
    values = np.array([0, -0.0, 88.6, 89, 1e30, math.inf, -88, -1e30, -math.inf, math.nan], np.float32)
    found = computed("exp", values, tmp_path)
    np.testing.assert_allclose(found[:3], np.exp(values[:3]), rtol=1e-5)
    np.testing.assert_array_equal(found[3:], [math.inf] * 3 + [0] * 3 + [math.nan])


@pytest.mark.parametrize(
    ("function", "exact", "bound"),
    [
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x)), 2e-7),
        ("tanh", np.tanh, 4e-7),
        ("erf", np.vectorize(math.erf), 6e-7),
    ],
    ids=["sigmoid", "tanh", "erf"],
)
def test_what_is_made_of_exp_is_right(function: str, exact: np.ufunc, bound: float, tmp_path: Path) -> None:
    values = np.concatenate([np.linspace(-12, 12, 20_011), [0, 1e-6, -1e-6, 500, -500]]).astype(np.float32)
    assert np.abs(computed(function, values, tmp_path) - exact(values.astype(np.float64))).max() < bound
