"""Dot product instructions compute what they are said to, on this processor and, for Arm, under emulation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import tirx

from tests.oracle.emulated import call_on_arm, needs_arm, program_for_arm
from tvm_prune.oracle.dot_products import available, kinds
from tvm_prune.oracle.spaces import dot_product
from tvm_prune.oracle.spaces.dot_sums import SUMS, WORD_SUMS
from tvm_prune.oracle.target import Target

HERE = Target.local(threads=1)
ARM = {
    "usdot": Target(cpu="neoverse-n2", triple="aarch64-linux-gnu"),
    "sdot": Target(cpu="cortex-a76", triple="aarch64-linux-gnu"),
    "smlal": Target(cpu="cortex-a72", triple="aarch64-linux-gnu"),
}


def of_this_processor() -> list[tuple[str, int]]:
    """Return kind and lanes of every instruction that this processor has, not only of those it would choose."""
    has, asked = tvm.get_global_func("target.llvm_cpu_has_feature"), HERE.to_tvm()
    found = available(HERE.architecture, HERE.lanes, lambda feature: bool(has(feature, asked)))
    return [(each.kind, lanes) for each in found for lanes in each.lanes]


def cases(lanes: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return (data, weights, sums): all extremes against each other, then random ones."""
    generator = np.random.default_rng(lanes)
    found = [
        (np.full(4, value, "uint8"), np.full((lanes, 4), weight, "int8"), np.full(lanes, total, "int32"))
        for value in (0, 127, 128, 255)
        for weight in (-128, -127, 0, 127)
        for total in (0, 2**31 - 1 - 4 * 255 * 127, 4 * 255 * 128 - 2**31)
    ]
    for number in range(20):
        data = generator.choice([0, 1, 127, 128, 129, 254, 255], 4) if number % 2 else generator.integers(0, 256, 4)
        weights = generator.integers(-128, 128, (lanes, 4))
        sums = generator.integers(-(2**30), 2**30, lanes)
        found.append((data.astype("uint8"), weights.astype("int8"), sums.astype("int32")))
    return found


def expected(data: np.ndarray, weights: np.ndarray, sums: np.ndarray) -> np.ndarray:
    return np.asarray(sums + weights.astype("int64") @ data.astype("int64"), "int32")


def alone(function: Any) -> Any:
    """Return a PrimFunc whose `sums` are those that it is called with."""
    return tirx.PrimFunc(function.params, function.body).with_attr("global_symbol", "kernel")


def test_every_kind_has_an_expression() -> None:
    assert set(SUMS) == set(WORD_SUMS) == {each.kind for each in kinds()}


@pytest.mark.parametrize(("kind", "lanes"), of_this_processor())
def test_an_instruction_of_this_processor_computes_what_it_is_said_to(kind: str, lanes: int) -> None:
    target = HERE.to_tvm()
    described = tvm.compile(tvm.IRModule({"kernel": alone(dot_product.description(lanes))}), target=target)
    done = tvm.compile(tvm.IRModule({"kernel": alone(dot_product.implementation(kind, lanes))}), target=target)
    for data, weights, sums in cases(lanes):
        for compiled in (described, done):
            found = tvm.runtime.tensor(sums)
            compiled["kernel"](tvm.runtime.tensor(data), tvm.runtime.tensor(weights), found)
            np.testing.assert_array_equal(found.numpy(), expected(data, weights, sums))


def word_cases(lanes: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return (data, weights, sums) of words: sums wrap around."""
    generator = np.random.default_rng(lanes)
    found = [
        (np.full(2, value, "int16"), np.full((lanes, 2), weight, "int16"), np.full(lanes, total, "int32"))
        for value in (-32768, -1, 0, 17340)
        for weight in (-6272, 0, 32767)
        for total in (-(2**31), 0, 2**31 - 1)
    ]
    for _ in range(20):
        data, weights = generator.integers(-32768, 32768, 2), generator.integers(-32768, 32768, (lanes, 2))
        sums = generator.integers(-(2**31), 2**31, lanes)
        found.append((data.astype("int16"), weights.astype("int16"), sums.astype("int32")))
    return found


def expected_words(data: np.ndarray, weights: np.ndarray, sums: np.ndarray) -> np.ndarray:
    return np.asarray(sums.astype("int64") + weights.astype("int64") @ data.astype("int64")).astype("int32")


@pytest.mark.parametrize(("kind", "lanes"), of_this_processor())
def test_an_instruction_for_words_computes_what_it_is_said_to_modulo_2_to_the_32(kind: str, lanes: int) -> None:
    dot_product.register()
    function = alone(dot_product.implementation(kind, lanes, dot_product.WORDS))
    done = tvm.compile(tvm.IRModule({"kernel": function}), target=HERE.to_tvm())
    for data, weights, sums in word_cases(lanes):
        found = tvm.runtime.tensor(sums)
        done["kernel"](tvm.runtime.tensor(data), tvm.runtime.tensor(weights), found)
        np.testing.assert_array_equal(found.numpy(), expected_words(data, weights, sums))


@needs_arm
def test_the_sums_of_words_of_arm_compute_what_they_are_said_to(tmp_path: Path) -> None:
    dot_product.register()
    function = alone(dot_product.implementation("smlal", 4, dot_product.WORDS))
    program = program_for_arm(function, ARM["smlal"], tmp_path)
    for data, weights, sums in word_cases(4):
        np.testing.assert_array_equal(call_on_arm(program, data, weights, sums), expected_words(data, weights, sums))


@needs_arm
@pytest.mark.parametrize("kind", sorted(ARM))
def test_an_instruction_of_arm_computes_what_it_is_said_to(kind: str, tmp_path: Path) -> None:
    program = program_for_arm(alone(dot_product.implementation(kind, 4)), ARM[kind], tmp_path)
    for data, weights, sums in cases(4):
        np.testing.assert_array_equal(call_on_arm(program, data, weights, sums), expected(data, weights, sums))


@pytest.mark.parametrize(
    ("kind", "lanes", "target", "instruction"),
    [
        ("vnni", 16, Target(cpu="cascadelake", triple="x86_64-linux-gnu"), "vpdpbusd"),
        ("vnni", 8, Target(cpu="alderlake", triple="x86_64-linux-gnu"), "{vex}\tvpdpbusd"),
        ("pmaddwd", 16, Target(cpu="skylake-avx512", triple="x86_64-linux-gnu"), "vpmaddwd"),
        ("pmaddwd", 8, Target(cpu="haswell", triple="x86_64-linux-gnu"), "vpmaddwd"),
        ("pmaddwd", 4, Target(triple="x86_64-linux-gnu"), "pmaddwd"),
        ("usdot", 4, ARM["usdot"], "usdot"),
        ("sdot", 4, ARM["sdot"], "sdot"),
        ("smlal", 4, ARM["smlal"], "smlal"),
    ],
)
def test_llvm_emits_the_instruction(kind: str, lanes: int, target: Target, instruction: str) -> None:
    module = tvm.IRModule({"kernel": alone(dot_product.implementation(kind, lanes))})
    text = tvm.compile(module, target=target.to_tvm()).mod.inspect_source("asm")
    assert f"\t{instruction}\t" in text
