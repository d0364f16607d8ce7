"""A symbol is an identifier that stands for one kernel and one schedule."""

from hypothesis import given
from hypothesis import strategies as st

from tvm_prune.oracle.symbol import program_symbol

traces = st.lists(st.one_of(st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=3)), max_size=4)


@given(trace=st.one_of(st.none(), traces), key=st.integers(-(2**63), 2**63 - 1))
def test_it_can_be_linked_by_any_linker(trace: object, key: int) -> None:
    assert program_symbol(str(key), trace).replace("-", "_").isidentifier()


@given(first=traces, second=traces)
def test_two_schedules_of_a_kernel_have_two_symbols(first: object, second: object) -> None:
    assert (program_symbol("1", first) == program_symbol("1", second)) == (first == second)
    assert program_symbol("1", first) not in (program_symbol("2", first), program_symbol("1", None))
