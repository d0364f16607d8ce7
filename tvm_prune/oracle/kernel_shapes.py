"""What the predictor needs to know of the kernels in a records folder, kept beside the records.

A workload's own JSON takes up to a tenth of a second to read; its shape is one short line of ``shapes.jsonl``. The file
is a cache: what is missing or cannot be read is worked out again from the workload.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tvm_prune.codec import decode, encode
from tvm_prune.errors import ConfigError
from tvm_prune.files import append_line
from tvm_prune.oracle.features import KernelShape, shape_of
from tvm_prune.oracle.records import Records
from tvm_prune.oracle.tasks import Kernel, anatomy_of

__all__ = ["KernelShapes"]

_FILE = "shapes.jsonl"
# Kinds of kernels that no network has yet: what they cost, no feature of the predictor tells.
_ALONE = ("bit_serial", "bit_packing")


class KernelShapes:
    """The shapes of the kernels of one records folder."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._path = records.folder / _FILE
        self._known: dict[str, KernelShape] = dict(_lines(self._path))

    def of(self, kernel: Kernel) -> KernelShape:
        """Return the shape of a kernel that is at hand."""
        if kernel.key not in self._known:
            self._keep(kernel.key, shape_of(kernel.function, anatomy_of(kernel)))
        return self._known[kernel.key]

    def recorded(self) -> Iterator[tuple[str, KernelShape]]:
        """Yield key and shape of every kernel that has a record and may be part of a network."""
        for key, workload in self._records.workloads():
            if key not in self._known:
                self._keep(key, _from_workload(key, workload))
            if self._known[key].anatomy.kind not in _ALONE:
                yield key, self._known[key]

    def _keep(self, key: str, shape: KernelShape) -> None:
        self._known[key] = shape
        append_line(self._path, json.dumps([key, encode(shape)]))


def _from_workload(key: str, workload: Any) -> KernelShape:
    from tvm.s_tir.meta_schedule.database import Workload

    function = Workload.from_json(workload).mod["main"]
    return shape_of(function, anatomy_of(Kernel(key, function)))


def _lines(path: Path) -> Iterator[tuple[str, KernelShape]]:
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            key, value = json.loads(text)
            yield str(key), decode(KernelShape, value)
        except (ValueError, TypeError, ConfigError):
            continue  # cut by a kill, or of another version
