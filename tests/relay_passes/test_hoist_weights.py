"""Changes of weights leave the graph, and their record says how to make the changed weight."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tvm import relax

from relay_passes.hoist_weights import HoistWeights, weight_entries
from relay_passes.weight_changes import apply_changes
from tests.relay_passes.graphs import Emit, graph, operators, run, tensor

RANDOM = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype("float32")


def test_the_recorded_changes_make_what_the_graph_made() -> None:
    data, weight, other = tensor("data", 2, 6), tensor("weight", 4, 3, 2), tensor("other", 4)

    def body(emit: Emit) -> Any:
        flat = emit(relax.op.reshape(emit(relax.op.permute_dims(weight, [0, 2, 1])), (4, 6)))
        return relax.op.add(emit(relax.op.matmul(data, emit(relax.op.permute_dims(flat)))), other)

    before = graph([data], [weight, other], body)
    after = HoistWeights()(before)  # type: ignore[operator]
    assert operators(after) == ["matmul", "add"]
    entries = weight_entries(after)
    assert entries == [
        {"name": "weight", "changes": [["permute", [0, 2, 1]], ["reshape", [4, 6]], ["permute", [1, 0]]]},
        {"name": "other", "changes": []},
    ]
    x, state = array(2, 6), {"weight": array(4, 3, 2), "other": array(4)}
    changed = [apply_changes(state[entry["name"]], entry["changes"]) for entry in entries]
    assert [[int(extent) for extent in param.ty.shape.values] for param in after["main"].params[1:]] == [
        list(part.shape) for part in changed
    ]
    np.testing.assert_allclose(run(after, x, *changed)[0], run(before, x, *state.values())[0], rtol=1e-6)


def test_a_weight_used_in_two_layouts_becomes_two_parameters() -> None:
    data, weight = tensor("data", 3, 3), tensor("weight", 3, 3)

    def body(emit: Emit) -> Any:
        plain = emit(relax.op.matmul(data, weight))
        return relax.op.matmul(plain, emit(relax.op.permute_dims(weight)))

    before = graph([data], [weight], body)
    after = HoistWeights()(before)  # type: ignore[operator]
    entries = weight_entries(after)
    assert [entry["name"] for entry in entries] == ["weight", "weight"]
    assert sorted(len(entry["changes"]) for entry in entries) == [0, 1]
    x, w = array(3, 3), array(3, 3)
    changed = [apply_changes(w, entry["changes"]) for entry in entries]
    np.testing.assert_allclose(run(after, x, *changed)[0], x @ w @ w.T, rtol=1e-5)


def test_the_same_change_twice_is_one_parameter() -> None:
    data, weight = tensor("data", 3, 3), tensor("weight", 3, 3)

    def body(emit: Emit) -> Any:
        first = emit(relax.op.matmul(data, emit(relax.op.permute_dims(weight))))
        return relax.op.matmul(first, emit(relax.op.permute_dims(weight)))

    after = HoistWeights()(graph([data], [weight], body))  # type: ignore[operator]
    assert weight_entries(after) == [{"name": "weight", "changes": [["permute", [1, 0]]]}]


def test_transposes_of_activations_stay() -> None:
    data, weight = tensor("data", 3, 2), tensor("weight", 3, 4)
    module = graph([data], [weight], lambda emit: relax.op.matmul(emit(relax.op.permute_dims(data)), weight))
    assert operators(HoistWeights()(module)) == ["permute_dims", "matmul"]  # type: ignore[operator]


def test_a_weight_nobody_reads_is_dropped() -> None:
    data, used, idle = tensor("data", 2, 3), tensor("used", 3), tensor("idle", 3)
    after = HoistWeights()(graph([data], [used, idle], lambda emit: relax.op.add(data, used)))  # type: ignore[operator]
    assert [entry["name"] for entry in weight_entries(after)] == ["used"]
    assert len(after["main"].params) == 2


@given(rows=st.integers(1, 4), columns=st.integers(1, 5), more=st.integers(0, 4))
def test_padding_adds_zeros_at_the_end_only(rows: int, columns: int, more: int) -> None:
    before = array(rows, columns)
    after = apply_changes(before, [["pad_last", columns + more]])
    assert after.shape == (rows, columns + more)
    assert after.flags.c_contiguous
    np.testing.assert_array_equal(after[:, :columns], before)
    assert not after[:, columns:].any()


def test_changes_are_made_in_order() -> None:
    before = array(2, 3)
    after = apply_changes(before, [["permute", [1, 0]], ["reshape", [2, 3]], ["pad_last", 4]])
    np.testing.assert_array_equal(after, np.pad(before.T.reshape(2, 3), [(0, 0), (0, 1)]))


def test_an_unknown_change_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="no such change of a weight: 'rotate'"):
        apply_changes(array(2), [["rotate", 90]])
