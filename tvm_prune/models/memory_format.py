"""In which memory format a network trains fastest on this machine, and in which it would never end."""

import torch
from torch import fx, nn

__all__ = ["training_format"]


def training_format(module: nn.Module) -> torch.memory_format:
    """Return the format of inputs and filters to train `module` in: channels last, with one exception.

    On processors with AVX2 but not AVX-512, the gradient of a strided 1x1 convolution of fewer than 8 channels runs for
    ever in that format (oneDNN as in torch 2.13, jit_avx2_1x1_convolution_bwd_weights). Of a traced network the strides
    are not looked for.
    """
    endless = any(
        isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) and part.stride != (1, 1) and part.in_channels < 8
        for part in module.modules()
    )
    if isinstance(module, fx.GraphModule):
        endless = any(part.shape[2:] == (1, 1) and part.shape[1] < 8 for part in module.parameters())
    return torch.contiguous_format if endless else torch.channels_last
