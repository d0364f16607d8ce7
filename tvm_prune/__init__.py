"""tvm_prune: prune, compress and tune a network by what it costs once compiled on the device it will run on."""

__all__ = ["__version__"]

__version__ = "0.1.0"
