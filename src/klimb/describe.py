"""What a setting may be, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from klimb.schema import LIMITS, Shape, limit


def words(shape: Shape) -> str:
    """The kind of value, in words."""
    bounds = "" if shape.item is not None else _bounds(shape)
    return _kind(shape) + bounds + (" (or null)" if shape.none else "")


def default_of(field: FieldInfo) -> str:
    """The default as one would write it; "" for a section or where a value must be given."""
    if field.is_required() or field.default_factory_takes_validated_data:
        return ""
    value = field.get_default(call_default_factory=True)
    return "" if isinstance(value, BaseModel) else say(value)


_SAYS = {
    "gt": "above {}",
    "ge": "at least {}",
    "lt": "below {}",
    "le": "at most {}",
    "multiple_of": "a multiple of {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
    "pattern": "of the form {}",
}


def _bounds(shape: Shape) -> str:
    found = {name: value for name in LIMITS for meta in shape.bounds if (value := limit(meta, name)) is not None}
    if "ge" in found and "le" in found:
        return f" from {found['ge']:g} to {found['le']:g}"
    says = [_SAYS[name].format(f"{v:g}" if isinstance(v, int | float) else v) for name, v in found.items()]
    if not says:
        return ""
    return (" " if says[0].startswith(("above", "below", "of")) else ", ") + " and ".join(says)


_PLAIN = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    Path: "a path",
    date: "a date as 2026-01-31",
    Any: "any value",
}


def _kind(shape: Shape) -> str:
    if shape.record:
        return "a section"
    if shape.members:
        return f"a section with {shape.tag}: " + _either([name for name, _ in shape.members])
    if shape.choices:
        return _either([say(choice) for choice in shape.choices])
    if shape.item is not None:
        return f"a mapping of names to {words(shape.item)}" if shape.keyed else _list(shape, shape.item)
    if shape.others:
        return _either([words(other) for other in shape.others])
    return _PLAIN.get(shape.plain) or str(getattr(shape.plain, "__name__", shape.plain))


def _list(shape: Shape, item: Shape) -> str:
    return f"a list{_bounds(shape)}, each {words(item)}"


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]


def say(value: Any) -> str:
    """A value as one would write it in a recipe, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and (value == "" or not value.isprintable() or value != value.strip()):
        return f"{value!r:.80}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {say(inner)}" for key, inner in value.items())[:80] + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(say(inner) for inner in value)[:80] + "]"
    return f"{value!s:.80}"
