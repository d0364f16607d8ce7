"""Models come in by name, function and archive; what does not fit is refused with what to type."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.models.small import tiny_net
from tvm_prune.errors import InputShapeError, ModelError, WeightsError
from tvm_prune.models.load import load_model
from tvm_prune.models.weights import save_weights

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x)

class Two(nn.Module):
    def forward(self, a, b):
        return a + b, {"difference": a - b}

class Text(nn.Module):
    def forward(self, a):
        return "no tensor"

def with_inputs():
    return Net(), (torch.zeros(3, 4),)

def with_wrong_inputs():
    return Net(), "four"

def two_inputs():
    return Two(), (torch.ones(1, 4), torch.ones(1, 4))

def text():
    return Text(), torch.ones(1)

def number():
    return 3

ready = Net()
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Return the name of a module of nets in the current folder; unique, because Python keeps what it imported."""
    name = f"nets_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(NETS)
    (tmp_path / f"{name}_broken.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    return name


def test_a_zoo_name_brings_its_input_shape() -> None:
    model = load_model("resnet20", num_classes=5, batch=2)
    assert model.name == model.source == "resnet20"
    assert [tuple(value.shape) for value in model.example_inputs] == [(2, 3, 32, 32)]
    assert model.prunable
    assert not model.module.training
    assert model.module(*model.example_inputs).shape == (2, 5)


def test_the_seed_decides_weights_and_inputs() -> None:
    first, again, other = load_model("lenet5"), load_model("lenet5"), load_model("lenet5", seed=1)
    assert torch.equal(first.module(*first.example_inputs), again.module(*again.example_inputs))
    assert not torch.equal(first.example_inputs[0], other.example_inputs[0])


def test_grey_inputs_make_a_grey_zoo_net() -> None:
    model = load_model("lenet5", input_shapes=[(1, 1, 32, 32)])
    assert model.example_inputs[0].shape == (1, 1, 32, 32)


def test_weights_are_loaded(tmp_path: Path) -> None:
    trained = load_model("lenet5", seed=4)
    save_weights(trained.module, tmp_path / "w.safetensors")
    again = load_model("lenet5", weights=tmp_path / "w.safetensors")
    x = trained.example_inputs
    assert torch.equal(again.module(*x), trained.module(*x))


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    save_weights(tiny_net(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="does not fit the model"):
        load_model("lenet5", weights=tmp_path / "w.safetensors")


def test_a_class_in_the_current_folder_is_built_and_given_inputs(nets: str) -> None:
    model = load_model(f"{nets}:Net", input_shapes=[(1, 4)])
    assert model.name == "Net"
    assert model.source == f"{nets}:Net"
    assert model.module(*model.example_inputs).shape == (1, 2)


def test_a_function_may_bring_example_inputs(nets: str) -> None:
    assert load_model(f"{nets}:with_inputs").example_inputs[0].shape == (3, 4)
    assert load_model(f"{nets}:with_inputs", batch=7).example_inputs[0].shape == (7, 4)
    assert load_model(f"{nets}:with_inputs", input_shapes=[(2, 4)]).example_inputs[0].shape == (2, 4)


def test_a_ready_made_module_is_taken_as_it_is(nets: str) -> None:
    assert isinstance(load_model(f"{nets}:ready", input_shapes=[(1, 4)]).module.layer, nn.Linear)


def test_several_inputs_and_outputs_are_allowed(nets: str) -> None:
    assert len(load_model(f"{nets}:two_inputs").example_inputs) == 2


def test_an_exported_archive_is_loaded_but_not_prunable(tmp_path: Path) -> None:
    module = tiny_net()
    inputs = (torch.randn(1, 3, 8, 8),)
    torch.export.save(torch.export.export(module, inputs), tmp_path / "tiny.pt2")
    model = load_model(str(tmp_path / "tiny.pt2"))
    assert (model.name, model.prunable) == ("tiny", False)
    torch.testing.assert_close(model.module(*inputs), module(*inputs))
    with pytest.raises(InputShapeError, match="does not take inputs of --input-shape 2,3,8,8"):
        load_model(str(tmp_path / "tiny.pt2"), batch=2)


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("resnet21", r"'resnet21' is no model\. Did you mean 'resnet.*zoo network.*package\.module:function.*\.pt2"),
        ("model.onnx", "no file model.onnx; check the path"),
        ("absent.pt2", "no file absent.pt2; check the path"),
        ("no_such_module:f", "no Python module 'no_such_module', also not in"),
        ("{nets}_broken:f", "importing .* failed: invalid syntax"),
        ("{nets}:absent", r"has no 'absent'; it has: Net, Text, Two, number"),
        ("{nets}:number", r"gave a int, not a torch.nn.Module"),
        ("{nets}:with_wrong_inputs", "the example inputs must be one tensor or a tuple of tensors, got 'four'"),
        ("{nets}:text", "must return tensors only, it returned str"),
    ],
)
def test_what_is_no_model_is_refused(nets: str, ref: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(ref.format(nets=nets))


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt2").write_bytes(b"PK not a zip")
    with pytest.raises(ModelError, match=r"is not an archive of torch\.export\.save.*export the model again"):
        load_model(str(tmp_path / "x.pt2"))


def test_an_archive_with_keyword_inputs_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(tiny_net(), (), {"input": torch.randn(1, 3, 8, 8)})
    torch.export.save(program, tmp_path / "x.pt2")
    with pytest.raises(ModelError, match="exported with keyword inputs input"):
        load_model(str(tmp_path / "x.pt2"))


def test_a_module_without_inputs_asks_for_a_shape(nets: str) -> None:
    with pytest.raises(InputShapeError, match=r"came without example inputs.*--input-shape 1,3,32,32"):
        load_model(f"{nets}:Net")


def test_a_wrong_shape_names_the_layer_and_what_to_type() -> None:
    with pytest.raises(InputShapeError, match=r"--input-shape 1,3,16,16.*in layer classifier\.0 = Linear\(in_features"):
        load_model("lenet5", input_shapes=[(1, 3, 16, 16)])


@pytest.mark.parametrize("shape", [(1, 0, 4), (), (1, -3)])
def test_a_shape_without_positive_sizes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputShapeError, match="needs positive sizes"):
        load_model("lenet5", input_shapes=[shape])


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(InputShapeError, match="batch must be at least 1, got 0"):
        load_model("lenet5", batch=0)
