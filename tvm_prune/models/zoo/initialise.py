"""First weights of the zoo's convolutions."""

from torch import nn

__all__ = ["initialise_convolutions"]


def initialise_convolutions(module: nn.Module) -> None:
    """Draw every convolution's weights for rectifiers.

    He et al. 2015, "Delving Deep into Rectifiers", section 2.2, in its fan-out form.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
