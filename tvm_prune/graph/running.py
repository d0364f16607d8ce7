"""Running a user's module for analysis: on a private copy, in eval mode, on inputs that reach every channel."""

import contextlib
import copy
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tvm_prune.errors import InputShapeError, PruningError

__all__ = ["RUN_ERRORS", "analysis_copy", "copy_module", "evaluating", "random_like", "run", "tensors_of"]

# What a forward pass raises when shapes do not fit: torch's own errors and the checks that users write.
RUN_ERRORS = (RuntimeError, ValueError, IndexError, AssertionError, TypeError)


def copy_module(module: nn.Module) -> nn.Module:
    """Return a deep copy of `module` without gradients. Raises PruningError if it holds what cannot be copied."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, about the pytree of an exported graph
            copied = copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise PruningError(
            f"{type(module).__name__} cannot be copied ({error}). Keep only parameters, buffers and plain values as "
            "attributes of the module, then try again."
        ) from error
    copied.zero_grad(set_to_none=True)
    return copied


def analysis_copy(module: nn.Module) -> nn.Module:
    """Return a copy in eval mode with every float parameter differentiable, so that autograd records all layers."""
    if isinstance(module, torch.jit.ScriptModule):
        raise PruningError(
            "a scripted or traced module has a fixed graph and cannot be pruned. Give the nn.Module it was made from."
        )
    copied = copy_module(module).eval()
    for parameter in copied.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return copied


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put `module` in eval mode and give every part its own training flag back afterwards."""
    flags = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, flag in flags.items():
            part.training = flag


def random_like(example_inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return inputs of the same shapes, dtypes and devices: floats from N(0, 1) with a fixed seed, others as given.

    Example inputs are often zeros, which would hide a wrong channel.
    """
    generator = torch.Generator().manual_seed(20)
    return tuple(
        torch.randn(value.shape, generator=generator).to(value) if value.is_floating_point() else value
        for value in example_inputs
    )


def tensors_of(output: Any) -> list[torch.Tensor]:
    """Return the tensors in `output` (a tensor, or tuples, lists and dicts of them), in order."""
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def run(module: nn.Module, inputs: Sequence[torch.Tensor]) -> Any:
    """Return what `module` gives for `inputs`. Raises InputShapeError with the shapes if it cannot run on them."""
    try:
        return module(*inputs)
    except RUN_ERRORS as error:
        shapes = ", ".join(f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}" for value in inputs)
        raise InputShapeError(
            f"{type(module).__name__} does not run on inputs {shapes or '(none)'}: {error}. "
            "Give example inputs of the shapes its forward() takes."
        ) from error
