"""On the path of the stock search's processes: hides torch, and lets TVM's scripted intrinsics parse in seconds.

Every worker of the stock builder parses them when it starts, which looks through all loaded modules again for each of
thousands of lines: more than a minute here, while a build may take 30 s. With the answers kept it is twelve seconds.
The search itself is not touched.
"""

import inspect
import sys
from types import ModuleType
from typing import Any

sys.modules["torch"] = None  # type: ignore[assignment]  # makes importing it fail at once

_slow = inspect.getmodule
_known: dict[str, ModuleType | None] = {}


def _getmodule(object: Any, _filename: str | None = None) -> ModuleType | None:
    name = getattr(getattr(object, "f_code", object), "co_filename", None)
    if name is None:
        return _slow(object, _filename)
    if name not in _known:
        _known[name] = _slow(object, _filename)
    return _known[name]


inspect.getmodule = _getmodule
