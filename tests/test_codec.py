"""Values to JSON and back."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_prune.codec import STRICT, decode, dumps, encode
from tvm_prune.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    name: str
    sizes: tuple[int, ...] = ()
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    table: dict[str, float] = field(default_factory=dict)
    __pydantic_config__ = STRICT


values = st.builds(
    Outer,
    inner=st.builds(Inner, name=st.text(), sizes=st.lists(st.integers()).map(tuple)),
    table=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
)


@given(values)
def test_what_is_encoded_is_decoded(value: Outer) -> None:
    assert decode(Outer, encode(value)) == value


def test_equal_values_give_equal_text() -> None:
    first = Outer(inner=Inner(name="a"), table={"x": 1.0, "y": 2.0})
    second = Outer(inner=Inner(name="a"), table={"y": 2.0, "x": 1.0})
    assert dumps(first) == dumps(second)
    assert "\n" not in dumps(first)


def test_every_bad_field_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"not a valid Outer: inner\.name: .*; inner\.colour: "):
        decode(Outer, {"inner": {"name": 3, "colour": "red"}})


def test_something_that_is_no_object_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a valid Outer: value: "):
        decode(Outer, 3)
