"""Targets: detection, text and JSON both ways, and what is refused."""

import json
import os
import platform

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_prune.errors import TargetError
from tvm_prune.oracle.target import Target, usable_cores

targets = st.builds(
    Target,
    cpu=st.sampled_from(["", "znver4", "cortex-a72"]),
    triple=st.sampled_from(["", "aarch64-linux-gnu"]),
    threads=st.integers(1, 256),
    vector_bits=st.sampled_from([128, 256, 512]),
)


def test_where_the_system_does_not_tell_which_cores_are_allowed_all_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores() == os.cpu_count()


def test_this_machine_is_detected() -> None:
    target = Target.parse("local")
    assert target == Target.local()
    assert target.kind == "llvm"
    assert target.cpu
    assert target.threads >= 1
    assert target.lanes * 32 == target.vector_bits
    if platform.system() == "Linux" and platform.machine() == "x86_64":
        with open("/proc/cpuinfo") as file:
            wide = " avx512f" in file.read()
        assert (target.vector_bits == 512) == wide


def test_the_detected_target_is_one_tvm_knows() -> None:
    target = Target.local(threads=2)
    made = target.to_tvm()
    assert str(made.kind) == "llvm" or made.kind.name == "llvm"
    assert made.attrs["mcpu"] == target.cpu
    assert int(made.attrs["num-cores"]) == 2


def test_threads_can_be_asked_for() -> None:
    assert Target.local(threads=3).threads == 3
    assert Target.parse("local", threads=5).threads == 5
    assert Target.parse("llvm --threads=4", threads=2).threads == 2


@given(target=targets)
def test_text_and_json_bring_a_target_back(target: Target) -> None:
    assert Target.parse(str(target)) == target
    assert Target.parse(json.dumps(target.to_json())) == target


def test_tvms_own_option_names_are_understood() -> None:
    text = "llvm -mcpu=znver4 --mtriple=x86_64-linux-gnu -num-cores=8 --vector-bits=512"
    assert Target.parse(text) == Target(cpu="znver4", triple="x86_64-linux-gnu", threads=8, vector_bits=512)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty.*type 'local'"),
        ("cuda", "target kind 'cuda' is not supported; use 'local'"),
        ("llvm --opt=3", "option '--opt=3' is not understood.*--cpu="),
        ("llvm extra", "option 'extra' is not understood"),
        ("llvm --threads=0", "threads 0 is not in 1..256"),
        ("llvm --threads=two", "threads: Input should be a valid integer"),
        ("llvm --vector-bits=100", "vector_bits 100 is not 128, 256 or 512"),
        ('{"kind": "llvm", "colour": "red"}', "colour: Unexpected keyword argument"),
        ('{"kind": "llvm"', "is not JSON"),
    ],
)
def test_a_target_that_cannot_be_understood_says_why(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        Target.parse(text)


def test_no_thread_at_all_is_refused() -> None:
    with pytest.raises(TargetError, match="threads 0 is not in"):
        Target.local(threads=0)


def test_a_processor_that_llvm_lacks_is_refused_with_those_alike() -> None:
    with pytest.raises(TargetError, match=r"cpu 'znver44' is not known to LLVM.*znver4.*type 'local'"):
        Target(cpu="znver44").to_tvm()
    with pytest.raises(TargetError, match="alike: none is alike"):
        Target(cpu="???").to_tvm()


def test_a_processor_of_another_kind_of_machine_is_taken_as_it_is() -> None:
    made = Target(cpu="cortex-a72", triple="aarch64-linux-gnu").to_tvm()
    assert made.attrs["mcpu"] == "cortex-a72"
    assert made.attrs["mtriple"] == "aarch64-linux-gnu"


def test_registers_follow_the_instruction_set() -> None:
    assert Target(vector_bits=512, triple="x86_64-linux-gnu").registers == 32
    assert Target(vector_bits=256, triple="x86_64-linux-gnu").registers == 16
    assert Target(vector_bits=128, triple="aarch64-linux-gnu").registers == 32


@pytest.mark.parametrize(
    ("text", "kind", "lanes"),
    [
        ("llvm --cpu=znver4 --vector-bits=512", "vnni", (16, 8, 4)),
        ("llvm --cpu=cascadelake --vector-bits=256", "vnni", (8, 4)),
        ("llvm --cpu=alderlake --vector-bits=256", "vnni", (8, 4)),
        ("llvm --cpu=skylake-avx512 --vector-bits=512", "pmaddwd", (16, 8, 4)),
        ("llvm --cpu=haswell --vector-bits=256", "pmaddwd", (8, 4)),
        ("llvm --cpu=sandybridge --vector-bits=256", "pmaddwd", (4,)),
        ("llvm --cpu=generic", "pmaddwd", (4,)),
        ("llvm --cpu=neoverse-v1", "usdot", (4,)),
        ("llvm --cpu=neoverse-n1", "sdot", (4,)),
        ("llvm --cpu=cortex-a76", "sdot", (4,)),
        ("llvm --cpu=apple-m1 --triple=arm64-apple-macosx", "sdot", (4,)),
        ("llvm --cpu=cortex-a72", "smlal", (4,)),
        ("llvm", "smlal", (4,)),
    ],
)
def test_a_processors_features_tell_its_dot_product(text: str, kind: str, lanes: tuple[int, ...]) -> None:
    arm = kind in ("usdot", "sdot", "smlal")
    if "--triple" not in text:
        text += " --triple=aarch64-linux-gnu" if arm else " --triple=x86_64-linux-gnu"
    found = Target.parse(text).dot_product
    assert found is not None
    assert (found.kind, found.lanes) == (kind, lanes)


@pytest.mark.parametrize("triple", ["foo-bar", "wasm32", "riscv64-linux-gnu", "armv7-linux-gnueabihf"])
def test_a_machine_of_which_no_dot_product_is_known_has_none(triple: str) -> None:
    # LLVM, asked about the features of foo-bar, would end the process.
    assert Target(cpu="nothing", triple=triple).dot_product is None


def test_a_processor_that_llvm_lacks_has_what_all_of_its_kind_have() -> None:
    found = Target(cpu="nothing", triple="aarch64-linux-gnu").dot_product
    assert found is not None
    assert found.kind == "smlal"


def test_an_architecture_has_one_name() -> None:
    assert Target(triple="arm64-apple-macosx").architecture == "aarch64"
    assert Target(triple="aarch64-linux-gnu").architecture == "aarch64"
    assert Target(triple="amd64-unknown").architecture == "x86_64"
    assert Target().architecture in ("x86_64", "aarch64")


def test_features_are_llvms() -> None:
    assert Target(cpu="znver4").has_feature("avx512bw")
    assert not Target(cpu="haswell").has_feature("avx512bw")
    with pytest.raises(TargetError, match="whether a processor of architecture 'riscv64' has avx2 is not known"):
        Target(triple="riscv64-linux-gnu").has_feature("avx2")
