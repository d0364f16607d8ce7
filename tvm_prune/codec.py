"""Values to JSON and back: frozen dataclasses, unknown keys refused.

A dataclass that crosses a file border sets ``__pydantic_config__ = STRICT``; `decode` then names a key that it does not
know.
"""

import json
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tvm_prune.errors import ConfigError

__all__ = ["STRICT", "decode", "dumps", "encode"]

STRICT = ConfigDict(extra="forbid")

Value = TypeVar("Value")


_ADAPTERS: dict[object, TypeAdapter[object]] = {}


def _adapter(kind: type[object]) -> TypeAdapter[object]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def encode(value: object) -> Any:
    """Return `value` (a dataclass, or a container of them) as plain JSON types."""
    return _adapter(type(value)).dump_python(value, mode="json")


def dumps(value: object) -> str:
    """Return `value` as one line of JSON with sorted keys, so that equal values give equal text."""
    return json.dumps(encode(value), sort_keys=True)


def decode(kind: type[Value], data: object) -> Value:
    """Return plain JSON types as a `kind`. Raises ConfigError naming each bad field."""
    try:
        return cast(Value, _adapter(kind).validate_python(data))
    except ValidationError as error:
        places = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'value'}: {item['msg']}" for item in error.errors()
        )
        raise ConfigError(f"not a valid {kind.__name__}: {places}") from error
