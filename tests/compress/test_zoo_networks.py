"""The zoo's networks through the whole layer: grouped, cut, folded and counted."""

import numpy as np
import pytest
import torch

from tests.graph.networks import outputs, randomised
from tvm_prune.compress.apply import apply_steps
from tvm_prune.compress.step import PruneStep
from tvm_prune.compress.uniform import kept_width
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.count import count
from tvm_prune.graph.fold import fold_batchnorm
from tvm_prune.graph.groups import find_groups
from tvm_prune.graph.importance import importance
from tvm_prune.models.zoo import build

INPUTS = (torch.zeros(1, 3, 32, 32),)


def model(name: str) -> CompressedModel:
    return CompressedModel(module=build(name), example_inputs=INPUTS)


def test_resnet20_has_one_group_a_stage_and_one_a_block() -> None:
    groups = find_groups(build("resnet20"), INPUTS)
    widths = [group.width for group in groups if group.prunable]
    assert sorted(widths) == [16] * 4 + [32] * 4 + [64] * 4
    stages = [group for group in groups if len(group.producers()) > 1]
    # The stem and three blocks write the first stage's sum.
    assert [len(group.producers()) for group in stages] in ([4, 4, 4], [4, 3, 3])
    assert [group.width for group in groups if not group.prunable] == [10]


def test_mobilenetv2_expansions_take_their_depthwise_convolution_along() -> None:
    groups = find_groups(build("mobilenetv2"), INPUTS)
    depthwise = [member.layer for group in groups for member in group.members if member.kind == "depthwise"]
    assert len(depthwise) == len(set(depthwise)) == 17
    assert [group.name for group in groups if not group.prunable] == [groups[-1].name]


def test_vgg16_and_lenet5_are_chains() -> None:
    vgg = find_groups(build("vgg16"), INPUTS)
    assert [len(group.producers()) for group in vgg] == [1] * 14
    assert [group.width for group in vgg if group.prunable] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    lenet = find_groups(build("lenet5"), INPUTS)
    assert [group.width for group in lenet] == [6, 16, 120, 84, 10]
    assert max(member.channels_per_unit for group in lenet for member in group.members) == 25


@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2-0.5", "lenet5", "vgg16"])
def test_half_of_every_group_can_go_and_batch_norm_still_folds(name: str) -> None:
    dense = model(name)
    steps = []
    for group in find_groups(dense.module, INPUTS):
        count_kept = kept_width(group.width, 0.5, round_to=4)
        if group.prunable and count_kept < group.width:
            best = np.argsort(-importance(dense.module, group, "l1"), kind="stable")[:count_kept]
            steps.append(PruneStep(group=group.name, width=group.width, keep=tuple(sorted(best.tolist()))))
    pruned = apply_steps(dense, steps)
    assert type(pruned.module) is type(dense.module)
    before, after = count(dense.module, INPUTS), count(pruned.module, INPUTS)
    assert after.macs < 0.55 * before.macs
    assert after.params < 0.45 * before.params
    folded = fold_batchnorm(pruned.module, INPUTS)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
    inputs = randomised(INPUTS, 4)
    want = outputs(pruned.module, inputs)[0]
    assert torch.allclose(outputs(folded, inputs)[0], want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))


def test_resnet20_is_counted_as_published() -> None:
    counts = count(build("resnet20"), INPUTS)
    # He et al., Deep Residual Learning, CVPR 2016, table 6: 0.27 M parameters; about 41 million multiply-adds.
    assert round(counts.params / 1e6, 2) == 0.27
    assert round(counts.macs / 1e6) == 41
