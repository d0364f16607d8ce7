"""What a compiled program is called: by its kernel and its schedule, so that one name is always the same code."""

import hashlib
import json
from typing import Any

__all__ = ["program_symbol"]


def program_symbol(key: str, trace_json: Any) -> str:
    """Return the symbol of a program: its kernel's `key` and the JSON of its trace (None = default schedule)."""
    if trace_json is None:
        return f"kernel_{key}_default"
    return f"kernel_{key}_{hashlib.sha256(json.dumps(trace_json).encode()).hexdigest()[:16]}"
