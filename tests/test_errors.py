"""The exception tree."""

import re

import pytest

from tvm_prune import errors

NAMES = [name for name in errors.__all__ if name != "TvmPruneError"]


@pytest.mark.parametrize("name", NAMES)
def test_every_error_is_ours_and_inherits_a_fitting_builtin(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.TvmPruneError)
    assert issubclass(kind, ValueError | RuntimeError | LookupError | OSError)


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = re.findall(r"[├└]── (\w+)(?: \((\w+)\))?", errors.__doc__ or "")
    assert {name for name, _ in drawn} == set(NAMES)
    for name, builtin in drawn:
        bases = [base.__name__ for base in getattr(errors, name).__bases__]
        if builtin:
            assert bases == ["TvmPruneError", builtin]
        else:
            assert bases == ["ModelError"]
