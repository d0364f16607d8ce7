"""What a model can be written as."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tvm_prune.compress.quantize import with_precision
from tvm_prune.errors import ConfigError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.scheme import Scheme
from tvm_prune.jobs.export import write_file


@pytest.fixture
def quantized() -> CompressedModel:
    model = CompressedModel(module=nn.Sequential(nn.Linear(4, 2)).eval(), example_inputs=(torch.randn(1, 4),))
    return with_precision(model, {"0": Scheme.parse("w4")}, {})


def test_a_suffix_that_is_no_format_is_refused(quantized: CompressedModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"let it end in \.safetensors, \.pt2 or \.onnx"):
        write_file(quantized, tmp_path / "model.pth")


@pytest.mark.parametrize("name", ["model.pt2", "model.onnx"])
def test_a_quantized_model_is_not_written_as_the_float_one(
    quantized: CompressedModel, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="would hold the quantized model in float32: compile it with"):
        write_file(quantized, tmp_path / name)
    assert not (tmp_path / name).exists()
    write_file(quantized, tmp_path / "weights.safetensors")
    assert (tmp_path / "weights.safetensors").exists()
