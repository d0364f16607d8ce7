"""The names a user imports: all there, and each from one place."""

import pytest

import tvm_prune


@pytest.mark.parametrize("name", tvm_prune.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(tvm_prune, name) is not None
    assert name in dir(tvm_prune)


def test_the_table_of_homes_and_the_public_names_agree() -> None:
    assert {*tvm_prune._HOME, "__version__"} == set(tvm_prune.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'prune_everything'"):
        tvm_prune.prune_everything  # noqa: B018 - the access is what is tested
