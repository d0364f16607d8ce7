"""The plan of a search, for reading."""

from tvm_prune.jobs.prune_run import CPruneJob
from tvm_prune.jobs.workbench import workbench_of
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.load import Model
from tvm_prune.oracle.base import CostOracle
from tvm_prune.report.programs import program_sheet, program_view
from tvm_prune.report.sheet import Column, Sheet, column, number
from tvm_prune.search.plan import Plan, plan
from tvm_prune.search.quality import Quality

__all__ = ["make_plan", "plan_sheets"]

CUTS_SHOWN = 12


def make_plan(model: Model, data: DataSet | Quality, oracle: CostOracle, *, job: CPruneJob | None = None) -> Plan:
    """Return what a search would start from and what it could reach; nothing is trained.

    Raises GoalError if a goal of the settings cannot be met, ModelError for a model that cannot be pruned.
    """
    job = job or CPruneJob()
    return plan(workbench_of(model, data, job.settings, ignored_layers=job.ignored_layers), oracle, job.settings)


def plan_sheets(found: Plan) -> tuple[Sheet, ...]:
    """Return the plan as sheets: what can be reached, the groups, the tasks."""
    reach = Sheet(
        title="Within reach",
        columns=(Column(name=""), column("latency ms"), column("MMACs"), column("k parameters")),
        rows=tuple(
            (name, number(cost.latency_s * 1e3), number(cost.macs / 1e6, 4), number(cost.params / 1e3, 4))
            for name, cost in (("dense", found.greatest), ("every group at max_sparsity", found.least))
        ),
        notes=(
            f"At most {found.best_speedup:.2f}x faster, predicted from the programs of the tasks.",
            f"Validation accuracy {found.accuracy.fraction:.2%}; at least {found.requirement:.2%} is to be kept.",
            f"The first cuts to be priced: {'; '.join(found.first[:CUTS_SHOWN]) or 'none'}.",
        ),
    )
    groups = Sheet(
        title="Groups of channels",
        columns=(Column(name="group"), column("channels"), Column(name="prunable"), Column(name="produced by")),
        rows=tuple(
            (
                group.name,
                str(group.width),
                "yes" if group.prunable else f"no: {group.reason}",
                ", ".join(group.outputs),
            )
            for group in found.groups
        ),
        notes=(f"{len(found.prunable)} of {len(found.groups)} groups can be pruned.",),
    )
    return reach, groups, program_sheet(program_view(found.table))
