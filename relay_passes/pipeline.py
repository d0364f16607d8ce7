"""The compiler front: which graph passes run, in which order, and why."""

from collections.abc import Mapping

import tvm
from tvm import ir, relax

from relay_passes.choose_forms import ChooseForms
from relay_passes.external_kernels import ExternalKernels
from relay_passes.fold_pads import FoldPads
from relay_passes.hoist_weights import HoistWeights
from relay_passes.legalize_once import LegalizeOnce
from relay_passes.one_call import OneCall
from relay_passes.sink_transposes import SinkTransposes
from relay_passes.subpixel import SubpixelConvolutions
from relay_passes.weight_form import WeightForm

__all__ = ["executable_passes", "fuse", "graph_passes"]


def graph_passes() -> tvm.transform.Sequential:
    """Imported graph -> channels-last inference graph whose weights are named parameters in their final layout."""
    return tvm.transform.Sequential(
        [
            relax.transform.DecomposeOpsForInference(),  # dropout goes, batch norm becomes arithmetic
            relax.transform.CanonicalizeBindings(),
            SubpixelConvolutions(),
            FoldPads(),
            relax.transform.ConvertLayout({"relax.nn.conv2d": ["NHWC", "HWIO"]}),  # channels are the SIMD axis
            relax.transform.Normalize(),
            SinkTransposes(),  # before hoisting: it may bring two changes of a weight together
            HoistWeights(),
            relax.transform.CanonicalizeBindings(),
            relax.transform.DeadCodeElimination(["main"]),
        ]
    )


def fuse(module: ir.IRModule, target: tvm.target.Target, forms: Mapping[str, WeightForm] | None = None) -> ir.IRModule:
    """Channels-last graph -> one kernel for each fused group, every call site still naming its weights.

    `forms` maps placeholders of weights to the form that their kernels read them in.
    """
    passes = tvm.transform.Sequential(
        [
            ChooseForms(forms or {}),
            LegalizeOnce(),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FoldConstant(),  # true constants only: the weights are parameters
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(["main"]),
        ]
    )
    with target, tvm.transform.PassContext(opt_level=3):
        return passes(module)


def executable_passes(symbols: Mapping[str, str] | None = None) -> tvm.transform.Sequential:
    """Scheduled kernels with bound weights -> what the virtual machine runs; memory is planned ahead.

    With `symbols` (kernel name -> symbol) the kernels are compiled elsewhere, and called without the machine's help.
    """
    planned = [
        relax.transform.RewriteDataflowReshape(),
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        relax.transform.CallTIRRewrite(),
        relax.transform.StaticPlanBlockMemory(),
        relax.transform.AttachGlobalSymbol(),
    ]
    made = [
        relax.transform.LowerAllocTensor(),
        relax.transform.KillAfterLastUse(),
        relax.transform.LowerRuntimeBuiltin(),
        relax.transform.ComputePrimValue(),
        relax.transform.VMShapeLower(),
    ]
    if symbols is not None:
        # Kernels leave last: before, a kernel's body tells, for one, whether it is a mere reshape.
        planned, made = [*planned, OneCall(symbols)], [*made, ExternalKernels(symbols)]
    return tvm.transform.Sequential([*planned, *made])
