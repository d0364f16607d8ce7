"""How many examples a slow property test draws."""

from hypothesis import settings

__all__ = ["few"]


def few(count: int) -> int:
    """Return `count`, or in a profile that draws more than hypothesis does by itself, as many times more."""
    return count * settings().max_examples // settings.get_profile("default").max_examples
