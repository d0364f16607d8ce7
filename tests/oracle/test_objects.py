"""Object files: one for each program and form, made once; records that do not fit are refused."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.oracle.kernels import TARGET, record_of, the_kernel
from tests.oracle.quick import mixed
from tests.relay_passes.graphs import conv_graph, matmul_graph
from tvm_prune.errors import RecordsError
from tvm_prune.oracle.builders import Builders
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.cost import Failure
from tvm_prune.oracle.module import blueprint
from tvm_prune.oracle.object_cache import ObjectCache
from tvm_prune.oracle.objects import Form, KernelObjects, KernelSource, scheduled
from tvm_prune.oracle.records import Record
from tvm_prune.oracle.spaces import enumerate_candidates
from tvm_prune.oracle.tasks import Kernel
from tvm_prune.oracle.worker import Worker, WorkerDied


@pytest.fixture(scope="module")
def builders() -> Iterator[Builders]:
    workers = Builders([Worker("build", threads=1) for _ in range(2)])
    yield workers
    workers.stop()


class Unemployed(Builders):
    """Builders that nothing is left for."""

    def each(self, work: object, items: Sequence[object]) -> Iterator[object]:  # type: ignore[override]  # none come
        assert not items
        return iter(())


def source(form: Form = "plain", *, program: int | None = 0, words: int = 41) -> KernelSource:
    found = the_kernel(conv_graph((3, 8)))
    record = None
    if program is not None:
        candidate = enumerate_candidates(found.function, TARGET, limit=2)[program]
        record = Record(program=candidate.program, record_json=record_of(found, candidate), trials=2)
    return KernelSource(found, record, form, 1, words)


def test_every_program_and_form_has_a_symbol_of_its_own() -> None:
    sources = [
        source(),
        source(program=1),
        source(program=None),
        source("stamped"),
        source("stamped", words=81),
    ]
    symbols = [each.symbol for each in sources]
    assert len(set(symbols)) == len(symbols)
    assert all(symbol.isidentifier() for symbol in symbols)


def test_the_same_program_has_the_same_symbol_whatever_the_stamps_of_other_modules() -> None:
    assert source().symbol == source(words=81).symbol
    assert source("stamped").symbol == source("stamped").symbol


def test_only_what_is_missing_is_compiled(builders: Builders, tmp_path: Path) -> None:
    objects = KernelObjects(TARGET, tmp_path / "objects", builders, ObjectCache(TARGET, None))
    plain, other, stamped = source(), source(program=1), source("stamped")
    objects.provide([plain, plain, other])
    files = sorted(tmp_path.glob("objects/*"))
    assert files == sorted([objects.path(plain.symbol), objects.path(other.symbol)])
    before = [(file.stat().st_mtime_ns, file.stat().st_ino) for file in files]
    objects.provide([plain, stamped, other])
    assert [(file.stat().st_mtime_ns, file.stat().st_ino) for file in files] == before
    assert b"clock_gettime" in objects.path(stamped.symbol).read_bytes()
    assert b"clock_gettime" not in objects.path(plain.symbol).read_bytes()
    assert plain.symbol.encode() in objects.path(plain.symbol).read_bytes()


def test_another_oracle_links_what_the_first_one_compiled(builders: Builders, tmp_path: Path) -> None:
    cache = ObjectCache(TARGET, tmp_path / "cache")
    first = KernelObjects(TARGET, tmp_path / "first", builders, cache)
    first.provide([source()])
    second = KernelObjects(TARGET, tmp_path / "second", Unemployed([]), ObjectCache(TARGET, tmp_path / "cache"))
    second.provide([source()])
    assert second.path(source().symbol).read_bytes() == first.path(source().symbol).read_bytes()


def test_a_kernel_that_does_not_compile_leaves_no_file(builders: Builders, tmp_path: Path) -> None:
    import tvm

    # An argument that nothing defines.
    broken = source(program=None).kernel.function.with_body(
        tvm.tirx.Evaluate(tvm.tirx.call_extern("int32", "f", tvm.tirx.Var("nowhere", "int32")))
    )
    bad = KernelSource(Kernel(key="1", function=broken), None, "plain", 1, 41)
    objects = KernelObjects(TARGET, tmp_path / "objects", builders, ObjectCache(TARGET, None))
    with pytest.raises(WorkerDied, match="nowhere"):
        objects.provide([bad, source()])
    assert not objects.path(bad.symbol).exists()
    assert not list(tmp_path.glob("objects/*.*.o"))


def test_a_record_that_does_not_replay_says_what_to_delete() -> None:
    conv, dense = the_kernel(conv_graph((3, 8))), the_kernel(matmul_graph(1, 8, 8))
    candidate = enumerate_candidates(dense.function, TARGET, limit=1)[0]
    foreign = Record(program=candidate.program, record_json=record_of(dense, candidate), trials=1)
    with pytest.raises(RecordsError, match=rf"kernel {conv.key} does not replay.*delete the records folder"):
        scheduled(conv, foreign)


def test_tuning_leaves_the_objects_that_modules_are_linked_from(oracle: CompilerOracle) -> None:
    model, known = mixed(14), set(oracle.records._known)
    oracle.estimate([model])
    (item,) = oracle._preparer.prepare([model])
    assert not isinstance(item, Failure)
    sources = blueprint(item.lowered, item.choice, oracle.target).kernels.values()
    tuned_now = [source for source in sources if source.kernel.key not in known]
    assert tuned_now
    assert all(oracle._objects.path(source.symbol).exists() for source in tuned_now)
