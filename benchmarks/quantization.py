"""What few bits do to accuracy and speed: trained networks quantized and scored as compiled modules.

    python -m benchmarks.quantization --weights resnet20=examples/weights/resnet20_cifar10.safetensors --data-dir DIR \\
        --json FILE

Every network is quantized with each scheme, observer, refinement and number of epochs of training with rounding;
`accuracy_*` are of the test split, `latency_ms` is that of the compiled module in a paired comparison with the float
one, `faster` their ratio, `bytes` those of the file of packed weights.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.document import Document, markdown_table
from tvm_prune.compress.calibrate import Observer
from tvm_prune.jobs.number_formats import QuantizeSettings, rounding_training
from tvm_prune.jobs.quantize import Quantized, quantize
from tvm_prune.jobs.refine import Refinement
from tvm_prune.models.datasets import load_data
from tvm_prune.models.load import load_model
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.target import Target

COLUMNS = {
    "model": "",
    "data": "",
    "scheme": "",
    "observer": "",
    "refine": "",
    "epochs": "",
    "accuracy_fp32": ".4f",
    "accuracy_torch": ".4f",
    "accuracy_compiled": ".4f",
    "agreement": ".4f",
    "latency_ms": ".4f",
    "faster": ".2f",
    "bytes": "",
}
# Each observer, then other formats with the default one, as they are, refined, and trained with rounding.
CASES: tuple[tuple[str, Observer, tuple[Refinement, ...], int], ...] = (
    ("int8", "minmax", (), 0),
    ("int8", "percentile", (), 0),
    ("int8", "mse", (), 0),
    ("int8", "entropy", (), 0),
    ("mixed", "mse", (), 0),
    ("fixed8.4", "mse", (), 0),
    ("w4", "mse", (), 0),
    ("w4a8", "mse", (), 0),
    ("w4a8", "mse", ("adaround",), 0),
    ("w3a8", "mse", (), 0),
    ("w3a8", "mse", ("adaround",), 0),
    ("w4a8", "mse", (), 1),
    ("w4a4", "mse", (), 1),
)


def _row(found: Quantized) -> dict[str, Any]:
    return {
        "model": found.model,
        "data": found.data,
        "scheme": found.settings.scheme,
        "observer": found.settings.observer,
        "refine": " ".join(found.settings.refine),
        "epochs": found.settings.training.epochs if found.settings.training else 0,
        "calibration_images": found.settings.images,
        "float_layers": list(found.float_layers),
        "accuracy_fp32": found.fp32.fraction,
        "accuracy_torch": found.rounded.fraction,
        "accuracy_compiled": found.compiled.fraction,
        "agreement": found.agreement,
        "latency_ms": found.quantized_ms,
        "fp32_ms": found.fp32_ms,
        "faster": found.faster.median,
        "faster_low": found.faster.median_low,
        "faster_high": found.faster.median_high,
        "bytes": found.quantized_bytes,
        "fp32_bytes": found.fp32_bytes,
        "shipped": found.shipped,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", required=True, metavar="MODEL=FILE")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=512, help="images to calibrate on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/quantization"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    data = load_data(arguments.data, data_dir=arguments.data_dir)
    rows = []
    for text in arguments.weights:
        name, _, weights = text.partition("=")
        model = load_model(name, weights=Path(weights), num_classes=data.num_classes)
        with CompilerOracle(
            Target.local(threads=arguments.threads), records_folder=arguments.out / "records"
        ) as oracle:
            for scheme, observer, refine, epochs in CASES:
                print(f"{name}: {scheme}, {observer}, {refine}, {epochs} epochs", file=sys.stderr)
                out = arguments.out / "-".join((name, scheme, observer, *refine, str(epochs)))
                training = rounding_training(epochs) if epochs else None
                settings = QuantizeSettings(
                    scheme=scheme, observer=observer, refine=refine, images=arguments.images, training=training
                )
                found = quantize(model, data, oracle, out=out, settings=settings)
                rows.append(_row(found))
                if arguments.json is not None:
                    Document.of(rows).write(arguments.json)
    print(markdown_table(rows, COLUMNS))


if __name__ == "__main__":
    main()
