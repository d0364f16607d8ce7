"""Sensitivities of a network's layers to number formats, kept in a folder: measured once, whatever is asked later.

One line of JSON for each layer and format, written as soon as it is known; the first line says of which network, on
which images. A line that a killed process left half written is measured again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tvm_prune.codec import decode, dumps
from tvm_prune.compress.calibrate import Observer, Seen
from tvm_prune.errors import ConfigError
from tvm_prune.files import write_atomically
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.graph.scheme import Scheme
from tvm_prune.jobs.watcher import Silent, Watcher
from tvm_prune.models.datasets.batches import normalised
from tvm_prune.models.datasets.dataset import DataSet
from tvm_prune.models.weights import weights_digest
from tvm_prune.search.sensitivity import Sensitivity, sensitivities

__all__ = ["SENSITIVITY_FILE", "measured_sensitivities"]

SENSITIVITY_FILE = "sensitivity.jsonl"
_BATCH = 128


def measured_sensitivities(
    model: CompressedModel,
    data: DataSet,
    formats: Mapping[str, Sequence[Scheme]],
    seen: Mapping[str, Seen],
    *,
    images: int,
    observer: Observer,
    out: Path,
    watcher: Watcher | None = None,
) -> tuple[Sensitivity, ...]:
    """Return the sensitivity of each layer to each of its `formats` on a sample of `images` of the validation split.

    `seen` is what the tensors of `model` hold (calibrate.observe). What ``out/sensitivity.jsonl`` holds is not measured
    again. Raises ConfigError if that is of another network or other images.
    """
    watcher, path = watcher or Silent(), out / SENSITIVITY_FILE
    split = data.val.sample(images)
    ranges = repr([(name, each.low, each.high) for name, each in sorted(seen.items())])
    identity = {
        "model": fingerprint(model),
        "weights": weights_digest(model.module),
        "data": data.name,
        "images": hashlib.sha256(split.images.numpy().tobytes()).hexdigest(),
        "observer": observer,
        "ranges": hashlib.sha256(ranges.encode()).hexdigest(),
    }
    known = {(each.layer, each.format): each for each in _read(path, identity)}
    watcher.stage("measure the sensitivity of each layer")
    wanted = sum(len(schemes) for schemes in formats.values())
    batches = [
        (normalised(part, data), labels)
        for part, labels in zip(split.images.split(_BATCH), split.labels.split(_BATCH), strict=True)
    ]
    found = sensitivities(
        model,
        formats,
        seen,
        batches,
        observer=observer,
        known=known.keys(),
        progress=lambda done: watcher.advance(done, total=wanted, detail="layers and formats"),
    )
    for each in found:
        known[each.layer, each.format] = each
        _append(path, identity, each)
    return tuple(known[layer, str(scheme)] for layer, schemes in formats.items() for scheme in schemes)


def _read(path: Path, identity: Mapping[str, str]) -> list[Sensitivity]:
    if not path.exists():
        return []
    first, *rest = path.read_text().splitlines() or [""]
    if first != json.dumps(identity, sort_keys=True):
        raise ConfigError(
            f"{path} is of another network, other images or another observer: give another --out, or remove that file"
        )
    found = []
    for line in rest:
        try:
            found.append(decode(Sensitivity, json.loads(line)))
        except (json.JSONDecodeError, ConfigError):
            break
    return found


def _append(path: Path, identity: Mapping[str, str], found: Sensitivity) -> None:
    """Write one more line; what stands after the last whole one goes."""
    kept = [json.dumps(identity, sort_keys=True), *(dumps(each) for each in _read(path, identity)), dumps(found)]
    write_atomically(path, "".join(f"{line}\n" for line in kept))
