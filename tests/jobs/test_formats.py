"""Files for other tools."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from tvm_prune.errors import ConfigError, ExportError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.export import write_file
from tvm_prune.models.weights import load_weights


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layer(x)
        return made * 2 if made.sum().item() > 0 else made


def small() -> CompressedModel:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    return CompressedModel(module=module, example_inputs=(torch.randn(2, 3, 8, 8),))


def test_each_suffix_gives_its_format(tmp_path: Path) -> None:
    model = small()
    with torch.no_grad():
        expected = model.module(*model.example_inputs)
    write_file(model, tmp_path / "m.pt2")
    torch.testing.assert_close(torch.export.load(tmp_path / "m.pt2").module()(*model.example_inputs), expected)
    write_file(model, tmp_path / "m.safetensors")
    again = small().module
    for parameter in again.parameters():
        nn.init.zeros_(parameter)
    load_weights(again, tmp_path / "m.safetensors")
    torch.testing.assert_close(again(*model.example_inputs), expected)


def test_the_onnx_file_stands_alone_and_agrees(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="pip install tvm-prune[bench] to check ONNX files")
    model = small()
    write_file(model, tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"))
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: model.example_inputs[0].numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, model.module(*model.example_inputs).numpy(), atol=1e-5)


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"let it end in \.safetensors, \.pt2 or \.onnx"):
        write_file(small(), tmp_path / "m.pth")


@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
def test_a_network_that_branches_on_values_cannot_be_exported(tmp_path: Path, suffix: str) -> None:
    model = CompressedModel(module=Branching(), example_inputs=(torch.randn(1, 4),))
    with pytest.raises(ExportError, match="cannot export Branching"):
        write_file(model, tmp_path / f"m.{suffix}")
    assert list(tmp_path.iterdir()) == []
