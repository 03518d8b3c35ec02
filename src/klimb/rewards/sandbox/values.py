"""Values as they come out of a sandbox: read strictly, and written as literals. They are claims, never verdicts."""

from __future__ import annotations

import json
import math
from typing import Any

DEEPEST = 60


def lines(out: bytes) -> list[Any]:
    """The whole lines of JSON at the start of an output; what follows the first broken one is not read."""
    found: list[Any] = []
    for line in out.split(b"\n")[:-1]:
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            break
    return found


def literal(answer: Any) -> str | None:
    """A Python expression whose only names are `float`, `complex`, `set`, `frozenset`; None for what is no value."""
    if not isinstance(answer, list) or len(answer) != 2 or answer[0] != "value":
        return None
    try:
        return _literal(answer[1], 0)
    except (TypeError, ValueError, KeyError, IndexError):
        return None


def _literal(said: Any, depth: int) -> str:
    kind, value = said
    if depth > DEEPEST or not isinstance(kind, str):
        raise ValueError("too deep, or no kind")
    if kind == "is" and (value is None or isinstance(value, bool)):
        return repr(value)
    if kind == "int":
        return hex(int(value, 16))
    if kind == "float" and isinstance(value, int | float):
        number = float(value)
        return repr(number) if math.isfinite(number) else f"float('{number}')"
    if kind == "str" and isinstance(value, str):
        return repr(value)
    if kind == "complex":
        return f"complex('{complex(value)}')"
    if kind == "bytes":
        return repr(bytes.fromhex(value))
    if kind == "dict" and isinstance(value, list):
        pairs = ", ".join(f"{_literal(key, depth + 1)}: {_literal(one, depth + 1)}" for key, one in value)
        return f"{{{pairs}}}"
    if kind in ("list", "tuple", "set", "frozenset") and isinstance(value, list):
        parts = ", ".join(_literal(one, depth + 1) for one in value)
        return f"[{parts}]" if kind == "list" else f"{kind}([{parts}])"
    raise ValueError(kind)
