"""The workbench over torch: what it builds, stores and scores, and a whole search on a small network."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.graph.networks import Residual
from tests.models.small import noise_data
from tests.search.toy import SETTINGS
from tvm_prune.errors import RecipeError, WeightsError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.models.train_settings import TrainSettings
from tvm_prune.oracle.fake import LinearOracle
from tvm_prune.search.budget import Budget
from tvm_prune.search.cprune import CPrune
from tvm_prune.search.journal import Header
from tvm_prune.search.loop import run
from tvm_prune.search.options import prune_to
from tvm_prune.search.quality import DataQuality, Quality, UserQuality
from tvm_prune.search.workbench import TorchWorkbench


def dense() -> CompressedModel:
    torch.manual_seed(0)
    return CompressedModel(module=Residual().eval(), example_inputs=(torch.randn(1, 3, 8, 8),))


def user_quality() -> UserQuality:
    """Return a quality that falls with the number of parameters left."""
    return UserQuality(
        lambda module: min(1.0, 0.5 + sum(p.numel() for p in module.parameters()) / 10_000), lambda module, epochs: None
    )


def workbench(quality: Quality | None = None, **options: Any) -> TorchWorkbench:
    return TorchWorkbench(dense(), quality or user_quality(), source="tests:Residual", **options)


def test_groups_come_as_values_with_their_layers_and_scores() -> None:
    bench = workbench()
    groups = {group.name: group for group in bench.groups(bench.dense())}
    assert groups["stem"].outputs == {"stem": 1, "outer": 1}
    assert groups["stem"].inputs == {"inner": 1, "fc": 1}
    assert groups["inner"].width == len(groups["inner"].scores) == 12
    assert not groups["fc"].prunable
    assert groups["fc"].reason
    assert groups["inner"].scores[0] == float(f"{groups['inner'].scores[0]:.6g}")


def test_a_built_model_is_smaller_and_the_dense_one_unchanged() -> None:
    bench = workbench()
    before = bench.identity
    inner = next(group for group in bench.groups(bench.dense()) if group.name == "inner")
    model = bench.build(bench.dense(), (prune_to(inner, 5),))
    assert model.module.get_parameter("inner.weight").shape[0] == 5
    assert workbench().identity == before == bench.identity


def test_identity_follows_structure_and_weights() -> None:
    module = dense().module
    with torch.no_grad():
        module.get_parameter("fc.bias").add_(1)
    other = TorchWorkbench(replace(dense(), module=module), user_quality(), source="x")
    assert other.identity != workbench().identity
    assert other.identity.split("-")[0] == workbench().identity.split("-")[0]


def test_a_saved_model_is_read_back_bit_by_bit(tmp_path: Path) -> None:
    bench = workbench()
    inner = next(group for group in bench.groups(bench.dense()) if group.name == "inner")
    steps = (prune_to(inner, 5),)
    model = bench.build(bench.dense(), steps)
    with torch.no_grad():
        model.module.get_parameter("fc.bias").add_(1)
    bench.save(model, steps, tmp_path / "0001")
    found = bench.load(steps, tmp_path / "0001")
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, found.module.state_dict()[name])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001.recipe.json", "0001.safetensors"]


def test_files_of_another_trial_are_refused(tmp_path: Path) -> None:
    bench = workbench()
    inner = next(group for group in bench.groups(bench.dense()) if group.name == "inner")
    steps = (prune_to(inner, 5),)
    bench.save(bench.build(bench.dense(), steps), steps, tmp_path / "0001")
    with pytest.raises(RecipeError, match="holds other steps than the journal beside it"):
        bench.load((prune_to(inner, 6),), tmp_path / "0001")
    (tmp_path / "0001.safetensors").write_bytes(b"broken")
    with pytest.raises(WeightsError):
        bench.load(steps, tmp_path / "0001")


def test_a_whole_search_prunes_a_real_network_and_resumes(tmp_path: Path) -> None:
    def once(run_dir: Path, oracle: LinearOracle) -> tuple[int, ...]:
        bench = workbench()
        settings = replace(SETTINGS, accuracy_drop=0.2, alpha=0.9, max_iterations=3)
        header = Header(
            method="cprune", settings={}, seed=0, model=bench.identity, data="", target="linear", packages={}
        )
        outcome = run(
            CPrune(settings), bench, oracle, header=header, budget=Budget(), run_dir=run_dir, clock=lambda: 0.0
        )
        assert outcome.finished
        last = outcome.accepted[-1]
        model = outcome.model(last.number, bench)
        assert outcome.dense.cost is not None
        assert last.cost is not None
        assert last.cost.latency_s < outcome.dense.cost.latency_s
        return tuple(model.module.get_parameter(f"{name}.weight").shape[0] for name in ("stem", "inner", "outer"))

    oracle = LinearOracle(lanes=4, overhead_s=0.0, launch_s=0.0)
    widths = once(tmp_path, oracle)
    assert widths[0] == widths[2] < 8 or widths[1] < 12
    again = LinearOracle(lanes=4, overhead_s=0.0, launch_s=0.0)
    assert once(tmp_path, again) == widths
    assert again.calls == {}


def data_quality() -> DataQuality:
    settings = TrainSettings(steps=2, batch_size=16, lr=0.01)
    return DataQuality(noise_data(64, num_classes=5), short=settings, final=settings)


def test_taylor_scores_use_the_gradients_of_the_data() -> None:
    by_taylor = workbench(data_quality(), criterion="taylor")
    by_norm = workbench(data_quality())
    scores = [{group.name: group.scores for group in bench.groups(bench.dense())} for bench in (by_taylor, by_norm)]
    assert scores[0]["inner"] != scores[1]["inner"]


def test_training_gives_a_new_model_and_the_same_seed_the_same_one() -> None:
    bench = workbench(data_quality())
    before = bench.identity
    first, second = (bench.finetune(bench.dense(), steps=2, seed=3) for _ in range(2))
    assert bench.identity == before
    assert not torch.equal(first.module.get_parameter("fc.weight"), bench.dense().module.get_parameter("fc.weight"))
    assert torch.equal(first.module.get_parameter("fc.weight"), second.module.get_parameter("fc.weight"))
    assert not first.module.training


def test_a_pruned_model_is_fitted_to_its_parent_only_where_there_are_images() -> None:
    settings = TrainSettings(steps=1)
    fitting = workbench(DataQuality(noise_data(64), short=settings, final=settings), refit_images=64)
    parent = fitting.dense()
    steps = tuple(prune_to(group, group.width // 2) for group in fitting.groups(parent) if group.prunable)
    model = fitting.build(parent, steps)
    refitted = fitting.refit(model, parent, steps, seed=1)
    assert fitting.refit(model, parent, steps, seed=1).module.state_dict().keys() == model.module.state_dict().keys()
    assert not torch.equal(refitted.module.get_parameter("inner.weight"), model.module.get_parameter("inner.weight"))
    assert workbench().refit(model, parent, steps, seed=1) is model


def test_a_deeper_cut_is_probed_as_farther_and_nothing_changes() -> None:
    settings = TrainSettings(steps=1)
    bench = workbench(DataQuality(noise_data(64), short=settings, final=settings), probe_images=32)
    parent, identity = bench.dense(), bench.identity
    inner = next(group for group in bench.groups(parent) if group.name == "inner")
    distances = []
    for count in (12, 9, 3):
        steps = (prune_to(inner, count),)
        model = bench.build(parent, steps)
        before = {name: value.clone() for name, value in model.module.state_dict().items()}
        distance = bench.probe(model, parent, steps)
        assert distance is not None
        assert distance == bench.probe(model, parent, steps)
        assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
        distances.append(distance)
    assert distances[0] == pytest.approx(0.0, abs=1e-9)
    assert 0 < distances[1] < distances[2]
    assert bench.identity == identity


def test_a_probe_follows_the_model_that_it_is_measured_from() -> None:
    settings = TrainSettings(steps=1)
    bench = workbench(DataQuality(noise_data(64), short=settings, final=settings), probe_images=32)
    groups = {group.name: group for group in bench.groups(bench.dense())}
    parent = bench.build(bench.dense(), (prune_to(groups["stem"], 4),))
    steps = (prune_to(groups["inner"], 6),)
    distance = bench.probe(bench.build(parent, steps), parent, steps)
    bench.probe(bench.build(bench.dense(), steps), bench.dense(), steps)
    assert distance == bench.probe(bench.build(parent, steps), parent, steps)


def test_the_users_functions_are_probed_only_with_inputs() -> None:
    blind = workbench()
    inner = next(group for group in blind.groups(blind.dense()) if group.name == "inner")
    steps = (prune_to(inner, 6),)
    assert blind.probe(blind.build(blind.dense(), steps), blind.dense(), steps) is None
    seeing = UserQuality(lambda _: 1.0, lambda *_: None, inputs=torch.randn(16, 3, 8, 8))
    bench = workbench(seeing, probe_images=8)
    distance = bench.probe(bench.build(bench.dense(), steps), bench.dense(), steps)
    assert distance is not None
    assert distance > 0
