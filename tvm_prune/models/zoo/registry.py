"""The networks that ship with the package, by name."""

import difflib

import torch
from torch import nn

from tvm_prune.errors import ModelError
from tvm_prune.models.zoo.entry import ZooEntry
from tvm_prune.models.zoo.lenet import lenet5
from tvm_prune.models.zoo.mobilenet import mobilenetv2, mobilenetv2_224, mobilenetv2_half
from tvm_prune.models.zoo.resnet import resnet18, resnet20, resnet32, resnet56
from tvm_prune.models.zoo.vgg import vgg16

__all__ = ["ZOO", "build"]

_IMAGE = (3, 32, 32)

ZOO: dict[str, ZooEntry] = {
    "lenet5": ZooEntry(builder=lenet5, input_shape=_IMAGE, summary="LeNet-5, no batch norm"),
    "mobilenetv2": ZooEntry(builder=mobilenetv2, input_shape=_IMAGE, summary="MobileNetV2 for CIFAR-size images"),
    "mobilenetv2-224": ZooEntry(
        builder=mobilenetv2_224, input_shape=(3, 224, 224), summary="MobileNetV2 for ImageNet-size images"
    ),
    "mobilenetv2-0.5": ZooEntry(builder=mobilenetv2_half, input_shape=_IMAGE, summary="MobileNetV2 at half width"),
    "resnet18": ZooEntry(builder=resnet18, input_shape=_IMAGE, summary="ResNet-18 with a 3x3 stem"),
    "resnet20": ZooEntry(builder=resnet20, input_shape=_IMAGE, summary="ResNet-20 for CIFAR-size images"),
    "resnet32": ZooEntry(builder=resnet32, input_shape=_IMAGE, summary="ResNet-32 for CIFAR-size images"),
    "resnet56": ZooEntry(builder=resnet56, input_shape=_IMAGE, summary="ResNet-56 for CIFAR-size images"),
    "vgg16": ZooEntry(builder=vgg16, input_shape=_IMAGE, summary="VGG-16 with batch norm and one linear layer"),
}


def build(name: str, num_classes: int = 10, in_channels: int = 3, seed: int = 0) -> nn.Module:
    """Return zoo network `name` in eval mode, weights drawn from `seed`; the caller's random state is left alone.

    Raises ModelError for an unknown name.
    """
    if name not in ZOO:
        close = difflib.get_close_matches(name, ZOO, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ModelError(f"no network {name!r} in the zoo.{hint} It holds: {', '.join(ZOO)}.")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ZOO[name].builder(num_classes, in_channels).eval()
