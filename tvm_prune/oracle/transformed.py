"""An oracle that answers what models cost in another form: in integers, for a search that knows of channels only."""

from collections.abc import Callable, Sequence

from tvm_prune.errors import QuantizationError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.base import CostOracle, Deepening
from tvm_prune.oracle.cost import Cost, Failure, Ratio
from tvm_prune.oracle.table import ProgramTable

__all__ = ["TransformedOracle"]

Change = Callable[[CompressedModel], CompressedModel]


class TransformedOracle:
    """Answers for `change` of every model what `oracle` says; a model that `change` refuses is a Failure.

    `change` must keep the names of the layers: program tables are read by them.
    """

    def __init__(self, oracle: CostOracle, change: Change) -> None:
        self._oracle = oracle
        self._change = change

    @property
    def seconds(self) -> dict[str, float]:
        """What the last call spent by stage, as far as the oracle says it."""
        return dict(getattr(self._oracle, "seconds", {}))

    @property
    def measurements(self) -> int:
        """Programs and whole modules timed in the last call, as far as the oracle says it."""
        return int(getattr(self._oracle, "measurements", 0))

    def estimate(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        """Price all models as they are once changed."""
        return self._answered(models, self._oracle.estimate)

    def predict(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        """Price all models once changed without measuring."""
        return self._answered(models, self._oracle.predict)

    def cost(self, model: CompressedModel) -> Cost | Failure:
        """Build and time the changed module."""
        changed = self._changed(model)
        return changed if isinstance(changed, Failure) else self._oracle.cost(changed)

    def table(self, model: CompressedModel) -> ProgramTable | Failure:
        """Return the program table of the changed model."""
        changed = self._changed(model)
        return changed if isinstance(changed, Failure) else self._oracle.table(changed)

    def compare(
        self, incumbent: CompressedModel, candidate: CompressedModel, *, limit: float | None = None
    ) -> Ratio | Failure:
        """Time both changed modules in alternating blocks."""
        before, after = self._changed(incumbent), self._changed(candidate)
        if isinstance(before, Failure):
            return before
        return after if isinstance(after, Failure) else self._oracle.compare(before, after, limit=limit)

    def deepen(self, *, trials_per_task: int) -> None:
        """Tell the oracle, if it can be told."""
        if isinstance(self._oracle, Deepening):
            self._oracle.deepen(trials_per_task=trials_per_task)

    def _changed(self, model: CompressedModel) -> CompressedModel | Failure:
        try:
            return self._change(model)
        except QuantizationError as error:
            return Failure(stage="lower", message=str(error))

    def _answered(
        self,
        models: Sequence[CompressedModel],
        ask: Callable[[Sequence[CompressedModel]], list[Cost | Failure]],
    ) -> list[Cost | Failure]:
        changed = [self._changed(model) for model in models]
        answers = iter(ask([model for model in changed if not isinstance(model, Failure)]))
        return [model if isinstance(model, Failure) else next(answers) for model in changed]
