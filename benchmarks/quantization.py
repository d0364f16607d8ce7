"""What int8 does to accuracy and speed: trained networks quantized after training, scored as compiled modules.

    python -m benchmarks.quantization --weights resnet20=examples/weights/resnet20_cifar10.safetensors --data-dir DIR \\
        --json FILE

Every network is quantized with each scheme and observer; `accuracy_*` are of the test split, `latency_ms` is that of
the compiled module in a paired comparison with the float one, `faster` their ratio.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.document import Document, markdown_table
from tvm_prune.compress.calibrate import Observer
from tvm_prune.jobs.quantize import Quantized, QuantizeScheme, quantize
from tvm_prune.models.datasets import load_data
from tvm_prune.models.load import load_model
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.target import Target

COLUMNS = {
    "model": "",
    "data": "",
    "scheme": "",
    "observer": "",
    "accuracy_fp32": ".4f",
    "accuracy_torch": ".4f",
    "accuracy_compiled": ".4f",
    "agreement": ".4f",
    "latency_ms": ".4f",
    "faster": ".2f",
    "bytes": "",
}
# All in integers with each observer, and the mixed scheme with the default one.
CASES: tuple[tuple[QuantizeScheme, Observer], ...] = (
    ("int8", "minmax"),
    ("int8", "percentile"),
    ("int8", "mse"),
    ("mixed", "mse"),
)


def _row(found: Quantized) -> dict[str, Any]:
    return {
        "model": found.model,
        "data": found.data,
        "scheme": found.scheme,
        "observer": found.observer,
        "calibration_images": found.calibration_images,
        "float_layers": list(found.float_layers),
        "accuracy_fp32": found.fp32.fraction,
        "accuracy_torch": found.rounded.fraction,
        "accuracy_compiled": found.compiled.fraction,
        "agreement": found.agreement,
        "latency_ms": found.int8_ms,
        "fp32_ms": found.fp32_ms,
        "faster": found.faster.median,
        "faster_low": found.faster.median_low,
        "faster_high": found.faster.median_high,
        "bytes": found.int8_bytes,
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
            for scheme, observer in CASES:
                print(f"{name}: {scheme}, {observer}", file=sys.stderr)
                out = arguments.out / f"{name}-{scheme}-{observer}"
                found = quantize(
                    model, data, oracle, out=out, scheme=scheme, observer=observer, images=arguments.images
                )
                rows.append(_row(found))
                if arguments.json is not None:
                    Document.of(rows).write(arguments.json)
    print(markdown_table(rows, COLUMNS))


if __name__ == "__main__":
    main()
