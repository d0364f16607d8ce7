"""A user's model in: a zoo name, a Python function, an ONNX file or an exported archive, checked by a forward pass."""

import difflib
import hashlib
import importlib
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree

from tvm_prune.errors import InputShapeError, ModelError
from tvm_prune.models.weights import load_weights
from tvm_prune.models.zoo import ZOO, build

__all__ = ["Model", "load_model"]

_ACCEPTED = (
    f"A model is the name of a zoo network ({', '.join(ZOO)}), package.module:function returning a "
    "torch.nn.Module or (module, example_inputs), or the path of an .onnx file, or of a .pt2 archive made by "
    "torch.export.save."
)


@dataclass(frozen=True)
class Model:
    """A module in eval mode and the inputs it was tried on.

    `source` is the reference it was loaded from; a model that is not `prunable` has lost its torch modules (an exported
    archive): it can be tuned, measured and diagnosed only. `file_sha256` is the hash of an ONNX file.
    """

    name: str
    module: nn.Module
    example_inputs: tuple[torch.Tensor, ...]
    source: str
    prunable: bool
    file_sha256: str | None = None


def load_model(
    ref: str,
    *,
    weights: Path | str | None = None,
    num_classes: int = 10,
    input_shapes: Sequence[Sequence[int]] | None = None,
    batch: int | None = None,
    seed: int = 0,
) -> Model:
    """Return the model that `ref` names, with `weights` (safetensors) loaded.

    `num_classes` is for zoo networks. `input_shapes` holds one shape per input, batch first; by default a zoo network's
    own, or the example inputs that the function or the archive brought. `batch` sets the first dimension of every
    input. `seed` draws fresh weights and the example inputs. Raises ModelError for what is no model, InputShapeError
    when the model does not take the inputs, WeightsError when the weights do not fit.
    """
    given = _shaped(input_shapes, seed=seed) if input_shapes is not None else None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        name, module, inputs, prunable = _loaded(ref, num_classes=num_classes, given=given, seed=seed)
    if inputs is None:
        raise InputShapeError(
            f"{ref} came without example inputs; say what it takes, for example --input-shape 1,3,32,32 "
            "(once per input), or let the function return (module, example_inputs)."
        )
    if batch is not None:
        inputs = _batched(inputs, batch)
    if weights is not None:
        load_weights(module, Path(weights))
    if prunable:  # an exported module has no modes to switch
        module.eval()
    _try(module, inputs, name=name)
    digest = hashlib.sha256(Path(ref).read_bytes()).hexdigest() if ref.endswith(".onnx") else None
    return Model(name=name, module=module, example_inputs=inputs, source=ref, prunable=prunable, file_sha256=digest)


_Loaded = tuple[str, nn.Module, tuple[torch.Tensor, ...] | None, bool]


def _loaded(ref: str, *, num_classes: int, given: tuple[torch.Tensor, ...] | None, seed: int) -> _Loaded:
    if ref in ZOO:
        inputs = given or _shaped([(1, *ZOO[ref].input_shape)], seed=seed)
        channels = inputs[0].shape[1] if inputs[0].dim() == 4 else ZOO[ref].input_shape[0]
        return ref, build(ref, num_classes, channels, seed), inputs, True
    if ref.endswith(".onnx"):
        from tvm_prune.models.onnx.convert import convert

        module, inputs = convert(Path(ref), inputs=given, seed=seed)
        return Path(ref).stem, module, inputs, True
    if ref.endswith(".pt2"):
        return _archive(Path(ref), given)
    if ":" in ref:
        return _from_function(ref, given)
    close = difflib.get_close_matches(ref, ZOO, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ModelError(f"{ref!r} is no model.{hint} {_ACCEPTED}")


def _archive(path: Path, given: tuple[torch.Tensor, ...] | None) -> _Loaded:
    if not path.is_file():
        raise ModelError(f"no file {path}; check the path. {_ACCEPTED}")
    if not zipfile.is_zipfile(path):
        raise ModelError(f"{path} is not an archive of torch.export.save (no zip file); export the model again.")
    try:
        program = torch.export.load(path)
    except (RuntimeError, ValueError, KeyError, OSError, EOFError, AssertionError) as error:
        raise ModelError(f"{path} is not an archive of torch.export.save ({error}); export the model again.") from error
    inputs = given
    if inputs is None and program.example_inputs is not None:
        positional, keyword = program.example_inputs
        if keyword:
            raise ModelError(
                f"{path} was exported with keyword inputs {', '.join(keyword)}; export it with positional ones."
            )
        inputs = _tensors(positional, path.name)
    module = program.module()
    # torch puts functions there that raise: an exported graph has no modes. Everything here calls eval() first.
    del module.train, module.eval
    return path.stem, module, inputs, False


def _from_function(ref: str, given: tuple[torch.Tensor, ...] | None) -> _Loaded:
    where, _, attribute = ref.partition(":")
    made = _resolved(ref, where, attribute)
    if not isinstance(made, nn.Module) and callable(made):
        made = made()
    inputs = given
    if isinstance(made, tuple) and len(made) == 2:
        made, brought = made
        inputs = given if given is not None else _tensors(brought, ref)
    if not isinstance(made, nn.Module):
        raise ModelError(f"{ref} gave a {type(made).__name__}, not a torch.nn.Module. {_ACCEPTED}")
    return attribute, made, inputs, True


def _resolved(ref: str, where: str, attribute: str) -> Any:
    with _importable_from_here():
        try:
            module = importlib.import_module(where)
        except ModuleNotFoundError as error:
            raise ModelError(
                f"{ref}: no Python module {error.name!r}, also not in {Path.cwd()}; start from the folder that holds "
                f"it, or install it. {_ACCEPTED}"
            ) from error
        except (ImportError, SyntaxError, ValueError) as error:
            raise ModelError(f"{ref}: importing {where!r} failed: {error}") from error
    found: Any = getattr(module, attribute, None)
    if found is None:
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise ModelError(
            f"{ref}: {where} has no {attribute!r}; it has: {', '.join(sorted(names)) or 'nothing callable'}."
        )
    return found


@contextmanager
def _importable_from_here() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _tensors(value: Any, where: str) -> tuple[torch.Tensor, ...]:
    items = (value,) if isinstance(value, torch.Tensor) else tuple(value) if isinstance(value, list | tuple) else ()
    if not items or not all(isinstance(item, torch.Tensor) for item in items):
        raise ModelError(f"{where}: the example inputs must be one tensor or a tuple of tensors, got {value!r}.")
    return items


def _shaped(shapes: Sequence[Sequence[int]], *, seed: int) -> tuple[torch.Tensor, ...]:
    for shape in shapes:
        if not shape or any(size < 1 for size in shape):
            raise InputShapeError(
                f"input shape {tuple(shape)} needs positive sizes, for example --input-shape 1,3,32,32."
            )
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(tuple(shape), generator=generator) for shape in shapes)


def _batched(inputs: tuple[torch.Tensor, ...], batch: int) -> tuple[torch.Tensor, ...]:
    if batch < 1:
        raise InputShapeError(f"the batch must be at least 1, got {batch}.")
    return tuple(value[torch.arange(batch) % len(value)] for value in inputs)


def _try(module: nn.Module, inputs: tuple[torch.Tensor, ...], *, name: str) -> None:
    running: list[str] = []
    shapes = " ".join(f"--input-shape {','.join(map(str, value.shape))}" for value in inputs)
    try:
        with _watched(module, running), torch.no_grad():
            outputs = module(*inputs)
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
        layer = f" in layer {running[-1]}" if running else ""
        raise InputShapeError(
            f"{name} does not take inputs of {shapes}: {error}{layer}. "
            "Give the shape it was made for, batch first, once per input, for example --input-shape 1,3,32,32."
        ) from error
    leaves = _pytree.tree_leaves(outputs)
    if not leaves or not all(isinstance(leaf, torch.Tensor) for leaf in leaves):
        raise ModelError(f"{name} must return tensors only, it returned {type(outputs).__name__}.")


@contextmanager
def _watched(module: nn.Module, running: list[str]) -> Iterator[None]:
    """Keep `running` as the stack of submodules being computed; after a failure its last entry is the culprit."""

    def enter(label: str) -> Callable[..., None]:
        return lambda *_: running.append(label)

    handles = []
    for path, child in module.named_modules():
        if path:
            handles.append(child.register_forward_pre_hook(enter(f"{path} = {_one_line(child)}")))
            handles.append(child.register_forward_hook(lambda *_: running.pop() and None))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _one_line(module: nn.Module) -> str:
    return f"{type(module).__name__}({module.extra_repr()})"
