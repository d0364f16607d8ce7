"""What code is generated for: kind, processor and threads. Text and JSON in and out; "local" detects this machine."""

import difflib
import json
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tvm_prune.codec import STRICT, decode, encode
from tvm_prune.errors import ConfigError, TargetError
from tvm_prune.oracle.dot_products import ARCHITECTURES, DotProduct, available

__all__ = ["Target", "usable_cores"]

# Vector bits by a feature of the processor, widest first; what LLVM calls the processor decides what it emits.
_VECTOR_BITS = (("avx512f", 512), ("avx2", 256), ("avx", 256), ("sse2", 128), ("asimd", 128), ("neon", 128))


@dataclass(frozen=True, kw_only=True)
class Target:
    """A processor to compile for.

    `kind` is always llvm today; `cpu` is LLVM's name (empty = generic), `triple` LLVM's target triple (empty = this
    machine), `threads` the worker threads of a parallel loop, `vector_bits` the SIMD width programs are tiled for.
    """

    kind: str = "llvm"
    cpu: str = ""
    triple: str = ""
    threads: int = 1
    vector_bits: int = 128
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.kind != "llvm":
            raise TargetError(f"target kind {self.kind!r} is not supported; use 'local' or 'llvm --cpu=NAME'")
        if not 1 <= self.threads <= 256:
            raise TargetError(f"target threads {self.threads} is not in 1..256")
        if self.vector_bits not in (128, 256, 512):
            raise TargetError(f"target vector_bits {self.vector_bits} is not 128, 256 or 512")

    @property
    def lanes(self) -> int:
        """Float32 elements of one vector."""
        return self.vector_bits // 32

    @property
    def architecture(self) -> str:
        """What the processor is: x86_64, aarch64, or another machine as its triple or this system calls it."""
        name = (self.triple.partition("-")[0] or platform.machine()).lower()
        return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)

    @property
    def dot_product(self) -> DotProduct | None:
        """The instruction that multiplies pairs of bytes and adds the products to a 32-bit sum; None without any."""
        return _dot_product(self)

    def has_feature(self, name: str) -> bool:
        """Return whether the processor has a feature by LLVM's name of it; of x86-64 and 64-bit Arm alone.

        Raises TargetError for another architecture: LLVM's answer would be a crash.
        """
        return _has_feature(self, name)

    @property
    def registers(self) -> int:
        """Vector registers: 32 on Arm and with AVX-512, else 16."""
        return 32 if self.vector_bits == 512 or self.architecture.startswith(("aarch64", "arm64")) else 16

    @property
    def accumulators(self) -> int:
        """Vector registers for sums: the others hold weights and a broadcast input; with fewer left, sums spill."""
        return self.registers - 4

    @classmethod
    def local(cls, *, threads: int | None = None) -> "Target":
        """Detect this machine: LLVM's own name of the processor, the cores this process may use, widest vectors."""
        return cls(
            cpu=_host_cpu(),
            threads=usable_cores() if threads is None else threads,
            vector_bits=_host_vector_bits(),
        )

    @classmethod
    def parse(cls, text: str, *, threads: int | None = None) -> "Target":
        """Return the target that `text` names: ``local``, ``llvm --cpu=NAME --threads=N ...``, or a JSON object."""
        text = text.strip()
        if text == "local":
            return cls.local(threads=threads)
        if not text:
            raise TargetError("the target is empty; type 'local' for this machine, or 'llvm --cpu=NAME --threads=N'")
        fields: dict[str, Any]
        if text.startswith("{"):
            try:
                fields = json.loads(text)
            except json.JSONDecodeError as error:
                raise TargetError(f"target {text!r} is not JSON: {error}") from error
        else:
            kind, *options = text.split()
            fields = {"kind": kind}
            for option in options:
                match = re.fullmatch(r"--?(cpu|mcpu|triple|mtriple|threads|num-cores|vector-bits)=(\S+)", option)
                if match is None:
                    raise TargetError(
                        f"target option {option!r} is not understood; "
                        "known are --cpu=, --triple=, --threads=, --vector-bits= (or type 'local')"
                    )
                name = {"mcpu": "cpu", "mtriple": "triple", "num-cores": "threads"}.get(match[1], match[1])
                fields[name.replace("-", "_")] = int(match[2]) if match[2].isdigit() else match[2]
        if threads is not None:
            fields["threads"] = threads
        try:
            return decode(cls, fields)
        except ConfigError as error:
            raise TargetError(f"target {text!r}: {error}") from error

    def __str__(self) -> str:
        parts = [self.kind]
        parts += [f"--cpu={self.cpu}"] if self.cpu else []
        parts += [f"--triple={self.triple}"] if self.triple else []
        return " ".join([*parts, f"--threads={self.threads}", f"--vector-bits={self.vector_bits}"])

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        return dict(encode(self))

    def to_tvm(self) -> Any:
        """Return TVM's own target object. Raises TargetError for a processor of this machine's kind that LLVM lacks."""
        import tvm

        if self.cpu and not self.triple:
            # LLVM would take the slowest processor instead and say so on stderr only. With a triple of which it knows
            # nothing, the question itself crashes, so other machines' processors are not asked about.
            known = {
                "generic",
                *map(str, tvm.get_global_func("target.llvm_get_cpu_archlist")(tvm.target.Target("llvm"))),
            }
            if self.cpu not in known:
                near = ", ".join(difflib.get_close_matches(self.cpu, known)) or "none is alike"
                raise TargetError(
                    f"target cpu {self.cpu!r} is not known to LLVM on this machine (alike: {near}); type 'local' to "
                    "detect it, or give --triple= for another kind of machine"
                )
        fields: dict[str, Any] = {"kind": self.kind, "num-cores": self.threads}
        if self.cpu:
            fields["mcpu"] = self.cpu
        if self.triple:
            fields["mtriple"] = self.triple
        return tvm.target.Target(fields)


@lru_cache
def _dot_product(target: Target) -> DotProduct | None:
    if target.architecture not in ARCHITECTURES:
        return None
    return next(available(target.architecture, target.lanes, target.has_feature), None)


@lru_cache
def _has_feature(target: Target, name: str) -> bool:
    if target.architecture not in ARCHITECTURES:
        raise TargetError(f"whether a processor of architecture {target.architecture!r} has {name} is not known")
    import tvm

    return bool(tvm.get_global_func("target.llvm_cpu_has_feature")(name, target.to_tvm()))


def usable_cores() -> int:
    """Return how many cores this process may use; where the system does not say (macOS), how many there are."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


def _host_cpu() -> str:
    """Return LLVM's name of this processor, asked of the compiler itself; empty when it does not know."""
    import tvm

    lookup = tvm.get_global_func("target.llvm_get_system_cpu", allow_missing=True)
    return str(lookup()) if lookup is not None else ""


def _host_vector_bits() -> int:
    flags: set[str] = set()
    if platform.system() == "Linux":
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith(("flags", "Features")):
                    flags = set(line.split(":", 1)[1].split())
                    break
    elif platform.system() == "Darwin":
        known = subprocess.run(["sysctl", "-a"], capture_output=True, text=True, check=False).stdout
        flags = {"avx2"} if "hw.optional.avx2_0: 1" in known else {"neon"}
    return next((bits for name, bits in _VECTOR_BITS if name in flags), 128)
