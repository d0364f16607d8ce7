"""Bundles: what was exported runs anywhere TVM does, without torch, and says what it lacks."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.oracle.quick import TwoPorts, compressed, mixed
from tvm_prune.codec import encode
from tvm_prune.errors import InputShapeError, ModelError, ToolchainError
from tvm_prune.oracle.bundle import Bundle, Port, export_bundle, load_bundle, run_bundle
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.toolchain import TVM_PINS

IMAGE = (1, 3, 8, 8)
MODEL = mixed()


@pytest.fixture(scope="module")
def folder(oracle: CompilerOracle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported bundle; tests do not change it."""
    made = tmp_path_factory.mktemp("bundle")
    export_bundle(MODEL, made, oracle=oracle, name="mixed")
    return made


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def hand_made(folder: Path, **changes: object) -> Path:
    """Write a bundle whose library is no library; `changes` go into bundle.json."""
    bundle = Bundle(
        format=1,
        model="small",
        library="model.so",
        inputs=(Port(shape=(1, 4), dtype="float32"),),
        outputs=(Port(shape=(1, 2), dtype="float32"),),
        target=Target(threads=2),
        versions=dict(TVM_PINS),
        parity_max_abs_err=0.0,
    )
    folder.mkdir(exist_ok=True)
    (folder / "model.so").write_bytes(b"nothing to load")
    (folder / "bundle.json").write_text(json.dumps({**encode(bundle), **changes}))
    return folder


def test_a_bundle_says_what_it_takes_gives_and_needs(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert bundle.inputs == (Port(shape=IMAGE, dtype="float32"),)
    assert bundle.outputs == (Port(shape=(1, 5), dtype="float32"),)
    assert (bundle.model, bundle.format, bundle.versions) == ("mixed", 1, TVM_PINS)
    assert bundle.target == Target.local(threads=2)
    assert 0 <= bundle.parity_max_abs_err < 1e-4
    assert files(folder) == ["bundle.json", bundle.library, "run.py"]


def test_a_bundle_computes_what_torch_computes(folder: Path) -> None:
    image = torch.randn(IMAGE)
    (made,) = run_bundle(folder, [image.numpy()])
    with torch.no_grad():
        np.testing.assert_allclose(made, MODEL.module(image).numpy(), atol=1e-4)


def test_several_inputs_and_outputs_keep_their_order(oracle: CompilerOracle, tmp_path: Path) -> None:
    model = compressed(TwoPorts(), IMAGE, (1, 6))
    bundle = export_bundle(model, tmp_path / "two", oracle=oracle, name="two")
    assert [port.shape for port in bundle.outputs] == [(1, 8, 8, 8), (1, 8)]
    image, numbers = torch.randn(IMAGE), torch.randn(1, 6)
    made = run_bundle(tmp_path / "two", [image.numpy(), numbers.numpy()])
    with torch.no_grad():
        expected = model.module(image, numbers)
    for mine, theirs in zip(made, expected, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-4)


def test_inputs_of_another_type_are_converted(folder: Path) -> None:
    image = np.random.default_rng(0).standard_normal(IMAGE)
    (double,), (single,) = run_bundle(folder, [image]), run_bundle(folder, [image.astype("float32")])
    np.testing.assert_array_equal(double, single)


def test_exporting_again_replaces_the_bundle(oracle: CompilerOracle, tmp_path: Path) -> None:
    image = torch.randn(IMAGE)
    for seed in (1, 2):
        model = mixed(seed=seed)
        bundle = export_bundle(model, tmp_path, oracle=oracle, name=f"seed {seed}")
        assert load_bundle(tmp_path) == bundle
        assert files(tmp_path) == ["bundle.json", bundle.library, "run.py"]
        (made,) = run_bundle(tmp_path, [image.numpy()])
        with torch.no_grad():
            np.testing.assert_allclose(made, model.module(image).numpy(), atol=1e-4)


def script(folder: Path, *arguments: str, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    """Run the bundle's own script where torch cannot be imported and tvm_prune is not on the path."""
    guard = tmp_path / "guard"
    (guard / "torch").mkdir(parents=True, exist_ok=True)
    (guard / "torch" / "__init__.py").write_text("raise ImportError('no torch on this machine')\n")
    environment = {**os.environ, "PYTHONPATH": str(guard)}
    return subprocess.run(
        [sys.executable, str(folder / "run.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tmp_path,
    )


def test_the_script_inside_needs_neither_torch_nor_this_package(folder: Path, tmp_path: Path) -> None:
    text = (folder / "run.py").read_text()
    assert len(text.splitlines()) <= 30
    assert "tvm_prune" not in text
    image = torch.randn(IMAGE)
    np.save(tmp_path / "image.npy", image.numpy())
    try:
        done = script(folder, "image.npy", tmp_path=tmp_path)
        assert done.returncode == 0, done.stderr
        made = np.load(folder / "output0.npy")
    finally:
        (folder / "output0.npy").unlink(missing_ok=True)
    with torch.no_grad():
        expected = MODEL.module(image).numpy()
    np.testing.assert_allclose(made, expected, atol=1e-4)
    assert f"largest at {expected.argmax()}" in done.stdout


def test_the_script_refuses_another_shape(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.zeros((1, 3, 9, 9), "float32"))
    done = script(folder, "image.npy", tmp_path=tmp_path)
    assert done.returncode == 1
    assert "input has shape [1, 3, 9, 9], the bundle was compiled for [1, 3, 8, 8]" in done.stderr


def test_running_a_bundle_loads_no_torch(folder: Path) -> None:
    code = (
        "import sys, pathlib, numpy; from tvm_prune.oracle.bundle import run_bundle;"
        f"run_bundle(pathlib.Path({str(folder)!r}), [numpy.zeros({IMAGE}, 'float32')]);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_another_shape_is_refused(tmp_path: Path) -> None:
    bundle = hand_made(tmp_path)
    with pytest.raises(InputShapeError, match=r"input 0 has shape \[1, 5\], the bundle was compiled for \[1, 4\]"):
        run_bundle(bundle, [np.zeros((1, 5), "float32")])


@pytest.mark.parametrize("count", [0, 2])
def test_another_number_of_inputs_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(InputShapeError, match=rf"the bundle takes 1 inputs, {count} were given"):
        run_bundle(hand_made(tmp_path), [np.zeros((1, 4), "float32")] * count)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no bundle: there is no bundle\.json\. 'tvm-prune export' makes one"):
        load_bundle(tmp_path)


def test_a_newer_format_is_refused_even_with_fields_we_do_not_know(tmp_path: Path) -> None:
    bundle = hand_made(tmp_path, format=2, colour="red")
    with pytest.raises(ModelError, match="has format 2, this version reads up to 1; update tvm_prune"):
        load_bundle(bundle)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"text"', '{"format": "new"}', '{"format": 1, "colour": "red"}'])
def test_a_broken_description_is_refused(tmp_path: Path, text: str) -> None:
    (hand_made(tmp_path) / "bundle.json").write_text(text)
    with pytest.raises(ModelError, match=r"bundle\.json cannot be read: .*Export the bundle again"):
        load_bundle(tmp_path)


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    (hand_made(tmp_path) / "model.so").unlink()
    with pytest.raises(ModelError, match=r"lacks its library model\.so; export the bundle again"):
        load_bundle(tmp_path)


def test_a_library_that_does_not_load_here_names_what_it_was_made_for(tmp_path: Path) -> None:
    bundle = hand_made(tmp_path)
    with pytest.raises(ToolchainError, match=r"model\.so cannot be loaded here .* compiled for llvm --threads=2"):
        run_bundle(bundle, [np.zeros((1, 4), "float32")])


def test_a_failed_export_leaves_the_old_bundle(oracle: CompilerOracle, tmp_path: Path) -> None:
    good = export_bundle(MODEL, tmp_path, oracle=oracle, name="good")
    wrong = replace(MODEL, example_inputs=(torch.zeros(1, 4, 8, 8),))
    with pytest.raises(ModelError, match="does not run on inputs"):
        export_bundle(wrong, tmp_path, oracle=oracle, name="bad")
    assert load_bundle(tmp_path) == good
    assert files(tmp_path) == ["bundle.json", good.library, "run.py"]
