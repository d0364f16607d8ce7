"""Unlabelled inputs from a file: taken when they fit the network, refused with what they are otherwise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tvm_prune.errors import DataError
from tvm_prune.models.inputs import read_inputs

EXAMPLE = torch.zeros(1, 3, 4, 5)


def saved(folder: Path, array: Any) -> Path:
    np.save(folder / "inputs.npy", array, allow_pickle=True)
    return folder / "inputs.npy"


@pytest.mark.parametrize("kind", ["float32", "float64", "uint8"])
def test_an_array_of_inputs_is_read_as_float32(tmp_path: Path, kind: str) -> None:
    array = np.arange(120).reshape(2, 3, 4, 5).astype(kind)
    found = read_inputs(saved(tmp_path, array), EXAMPLE)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), array)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 4, 5)), r"holds \[2, 4, 5\]; the network takes \[inputs, 3, 4, 5\]"),
        (np.float32(1), r"holds \[\]; the network takes"),
        (np.zeros((2, 3, 4, 5), bool), "values of type bool; give float32"),
        (np.full((2, 3, 4, 5), np.nan), "not finite; remove those inputs"),
        (np.array([{"an": "object"}]), r"cannot be read as an array .*write one with numpy\.save"),
    ],
    ids=["shape", "number", "type", "not finite", "pickled"],
)
def test_what_does_not_fit_is_named(tmp_path: Path, array: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_inputs(saved(tmp_path, array), EXAMPLE)


def test_files_that_are_no_array_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as an array"):
        read_inputs(tmp_path / "nowhere.npy", EXAMPLE)
    (tmp_path / "text.npy").write_text("1 2 3")
    with pytest.raises(DataError, match="cannot be read as an array"):
        read_inputs(tmp_path / "text.npy", EXAMPLE)
    np.savez(tmp_path / "several.npz", one=np.zeros(3))
    with pytest.raises(DataError, match="an archive of several arrays"):
        read_inputs(tmp_path / "several.npz", EXAMPLE)
