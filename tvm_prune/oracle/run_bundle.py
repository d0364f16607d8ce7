"""Run this bundle on an input: python run.py x.npy [more.npy ...]. Needs apache-tvm, apache-tvm-ffi and numpy only."""

import json
import os
import pathlib
import sys

here = pathlib.Path(__file__).resolve().parent
about = json.loads((here / "bundle.json").read_text())
os.environ.setdefault("TVM_NUM_THREADS", str(about["target"]["threads"]))  # before the first launch

import numpy as np  # noqa: E402
import tvm  # noqa: E402
from tvm import relax  # noqa: E402

library = tvm.runtime.load_module(str(here / about["library"]))
main = relax.VirtualMachine(library, tvm.cpu())["main"]
arrays = [np.load(path, allow_pickle=False) for path in sys.argv[1:]]
for wanted, array in zip(about["inputs"], arrays, strict=True):
    if list(array.shape) != wanted["shape"]:
        sys.exit(f"input has shape {list(array.shape)}, the bundle was compiled for {wanted['shape']}")
ready = [tvm.runtime.tensor(array.astype(port["dtype"])) for port, array in zip(about["inputs"], arrays, strict=True)]
outputs = main(*ready)
for number, output in enumerate([outputs] if hasattr(outputs, "numpy") else outputs):
    result = output.numpy()
    np.save(here / f"output{number}.npy", result)
    print(f"{here / f'output{number}.npy'}: shape {list(result.shape)}, largest at {int(result.argmax())}")
