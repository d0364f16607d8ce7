"""Who is told how a job gets on: a screen, a log, or nobody."""

from typing import Protocol

__all__ = ["Silent", "Watcher"]


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
