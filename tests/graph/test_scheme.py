"""Number formats have short names, and those that do not exist are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_prune.errors import QuantizationError
from tvm_prune.graph.scheme import FLOAT32, INT8, Scheme


def test_names_say_bits_of_weights_and_activations() -> None:
    assert Scheme.parse("float32") == FLOAT32
    assert Scheme.parse("w8a8") == Scheme.parse("int8") == INT8
    assert Scheme.parse("w4a8") == Scheme(weight_bits=4, activation_bits=8)
    assert Scheme.parse("w2") == Scheme(weight_bits=2)
    assert Scheme.parse("fixed8.4") == Scheme(weight_bits=8, activation_bits=8, fraction_bits=4)


@given(st.integers(1, 8), st.one_of(st.integers(1, 8), st.just(32)))
def test_a_name_says_all_of_a_scheme(weights: int, activations: int) -> None:
    scheme = Scheme(weight_bits=weights, activation_bits=activations)
    assert Scheme.parse(str(scheme)) == scheme


@given(st.integers(2, 8), st.integers(0, 16))
def test_a_name_says_all_of_fixed_point(bits: int, fraction: int) -> None:
    scheme = Scheme(weight_bits=bits, activation_bits=bits, fraction_bits=fraction)
    assert Scheme.parse(str(scheme)) == scheme


def test_only_rounded_activations_make_a_layer_compute_with_integers() -> None:
    assert (INT8.in_integers, INT8.rounds_weights) == (True, True)
    assert (Scheme.parse("w4").in_integers, Scheme.parse("w4").rounds_weights) == (False, True)
    assert (FLOAT32.in_integers, FLOAT32.rounds_weights) == (False, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int4", "there is no number format 'int4'; known are float32, int8, wNaM and wN"),
        ("w9", "weights of 9 bits are not supported"),
        ("w0a8", "weights of 0 bits are not supported"),
        ("w8a16", "activations of 16 bits are not supported"),
        ("w32a8", "integer activations need integer weights"),
        ("fixed1.0", "fixed point has 2 to 8 bits"),
        ("fixed8.17", "fixed point has 0 to 16 bits behind the point, not 17"),
    ],
)
def test_formats_that_do_not_exist_are_refused(text: str, message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        Scheme.parse(text)


def test_fixed_point_is_of_weights_and_activations_alike() -> None:
    with pytest.raises(QuantizationError, match="weights and activations alike"):
        Scheme(weight_bits=8, activation_bits=4, fraction_bits=2)
