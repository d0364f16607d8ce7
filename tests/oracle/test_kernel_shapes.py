"""Shapes of recorded kernels, kept beside the records."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oracle.kernels import TARGET, record_of, the_kernel
from tests.relay_passes.graphs import conv_graph
from tvm_prune.oracle import kernel_shapes
from tvm_prune.oracle.bit_conv import BitConv, WordForm
from tvm_prune.oracle.bit_forms import bit_serial_kernel, packing_kernel
from tvm_prune.oracle.features import shape_of
from tvm_prune.oracle.kernel_shapes import KernelShapes
from tvm_prune.oracle.records import Records
from tvm_prune.oracle.spaces import enumerate_candidates
from tvm_prune.oracle.tasks import anatomy_of


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    found = the_kernel(conv_graph((3, 8)))
    made = Records(tmp_path, TARGET)
    (candidate,) = enumerate_candidates(found.function, TARGET, limit=1)
    made.commit(found.key, found.workload_json, [(record_of(found, candidate), [1e-6])])
    yield made
    made.close()


def test_the_shapes_of_recorded_kernels_are_worked_out_once(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    found = the_kernel(conv_graph((3, 8)))
    expected = [(found.key, shape_of(found.function, anatomy_of(found)))]
    assert list(KernelShapes(records).recorded()) == expected
    monkeypatch.setattr(kernel_shapes, "_from_workload", None)
    assert list(KernelShapes(records).recorded()) == expected


def test_lines_that_cannot_be_read_are_worked_out_again(records: Records) -> None:
    expected = list(KernelShapes(records).recorded())
    path = records.folder / "shapes.jsonl"
    key = json.loads(path.read_text())[0]
    path.write_text(f'{path.read_text()[:40]}\n["{key}", {{"anatomy": 3}}]\n')
    assert list(KernelShapes(records).recorded()) == expected


def test_a_kernel_at_hand_needs_no_record(records: Records) -> None:
    other = the_kernel(conv_graph((3, 12)))
    shapes = KernelShapes(records)
    assert shapes.of(other) == shape_of(other.function, anatomy_of(other))
    assert len((records.folder / "shapes.jsonl").read_text().splitlines()) == 1


def test_kernels_that_no_network_has_teach_nothing_about_networks(records: Records) -> None:
    expected = list(KernelShapes(records).recorded())
    conv = BitConv(height=3, width=3, in_channels=16, out_channels=4, w_bits=1, a_bits=1)
    form = WordForm(bits=16, lanes=4)
    for found in (bit_serial_kernel(conv, form, TARGET), packing_kernel(conv, form, TARGET)):
        (candidate,) = enumerate_candidates(found.function, TARGET, limit=1)
        records.commit(found.key, found.workload_json, [(record_of(found, candidate), [1e-6])])
    assert list(KernelShapes(records).recorded()) == expected
