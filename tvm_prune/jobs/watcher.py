"""Who is told how a job gets on: a screen, a log, or nobody."""

from typing import Protocol

from tvm_prune.search.trial import State, Trial

__all__ = ["LoopProgress", "Silent", "Watcher"]


class Watcher(Protocol):
    """Told about progress. Must return at once and never raise."""

    def stage(self, text: str, *, total: int | None = None) -> None:
        """A new stage begins; `total` units of work follow, None = not known."""

    def advance(self, done: int, *, total: int | None = None, detail: str = "") -> None:
        """`done` units of this stage are finished; `detail` is what is being worked on."""

    def note(self, text: str) -> None:
        """Something worth keeping on the screen: an accepted step, a resumed file."""


class Silent:
    """A watcher that ignores everything."""

    def stage(self, text: str, *, total: int | None = None) -> None:
        """Ignore it."""

    def advance(self, done: int, *, total: int | None = None, detail: str = "") -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""


class LoopProgress:
    """Tells a watcher about a search: the loop's `Progress`."""

    def __init__(self, watcher: Watcher, name: str) -> None:
        self._watcher = watcher
        self._name = name
        self._best = ""

    def stage(self, text: str) -> None:
        """Show what is being done, beside the incumbent's figures."""
        self._watcher.stage(f"{self._name}: {text}" + (f" (now {self._best})" if self._best else ""))

    def trial(self, trial: Trial) -> None:
        """Keep a line for each trial that was built."""
        if not trial.built:
            return
        figures = []
        if trial.cost is not None:
            figures.append(f"{trial.cost.latency_s * 1e3:.3f} ms")
        if trial.accuracy is not None:
            figures.append(f"{trial.accuracy.fraction:.2%}")
        if trial.state is State.ACCEPTED:
            self._best = ", ".join(figures)
        steps = trial.proposal.steps if trial.proposal else ()
        made = ", ".join(f"{step.group} {step.width}->{len(step.keep)}" for step in steps) or "dense"
        self._watcher.note(f"{self._name} trial {trial.number} {trial.state.value}: {made}; {', '.join(figures)}")

    def eta(self, seconds: float | None) -> None:
        """Show how much of the budget is left."""
        if seconds is not None:
            self._watcher.advance(0, detail=f"at most {seconds:.0f} s of the budget left")
