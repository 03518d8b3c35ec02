"""Settings: frozen, strict records. Defaults < recipe YAML < `key=value` words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from klimb.errors import KlimbError, SettingsError
from klimb.faults import collect, faults_of
from klimb.overrides import apply_each, apply_words, paths_of
from klimb.schema import Shape, shape_of
from klimb.yamltext import read_marked, read_recipe

__all__ = ["ABSENT", "Settings", "apply_words", "changed", "dump", "load", "read_recipe", "resolve"]

ABSENT = "(absent)"
"""Stands in `changed` for a setting that one side lacks."""


class Settings(BaseModel):
    """The base of every settings record: frozen; unknown names are errors; a field's docstring is its help text.

    A record may define `faults() -> list[KlimbError]`: what does not fit together among its fields.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """A field that is only given another default keeps the help of the record it comes from."""
        for name, field in cls.model_fields.items():
            above = (base.model_fields.get(name) for base in cls.__mro__[1:] if issubclass(base, BaseModel))
            field.description = field.description or next((f.description for f in above if f and f.description), None)


S = TypeVar("S", bound=BaseModel)


def load(record: type[S], path: Path | str, words: Iterable[str] = ()) -> S:
    """The settings of a recipe file and words. Raises one SettingsError with the faults of both."""
    words = tuple(words)
    data, lines = read_marked(path)
    changed_data, faults = apply_each(data, words, record)
    places = {where: f"line {line} of {path}" for where, line in lines.items()}
    places |= dict.fromkeys(paths_of(words), "given as a word")
    try:
        settings = resolve(record, changed_data, places)
    except SettingsError as error:
        raise SettingsError([*faults, *error.faults]) from None
    if faults:
        raise SettingsError(faults)
    return settings


def resolve(record: type[S], data: Mapping[str, Any], places: Mapping[str, str] | None = None) -> S:
    """The settings that `data` says, over the defaults: a section that says a part keeps the rest of its default.

    Values must have their setting's kind ("3" is no number). `places` (dotted path to words) tells where a value was
    written. Raises one SettingsError with every fault; the checks between parts run once each part is right.
    """
    full = _over_defaults(Shape(record=record), data)
    try:
        settings = record.model_validate_json(json.dumps(full, default=str), strict=True)
    except ValidationError as error:
        raise SettingsError(faults_of(error, record, full, places or {})) from None
    except KlimbError as error:
        raise SettingsError([error]) from None
    except ValueError as error:
        found = f"{error!s:.80}"
        raise SettingsError([KlimbError("the settings must be plain values", found, "write it shorter")]) from None
    faults = list(collect(settings))
    if faults:
        raise SettingsError(faults)
    return settings


def dump(settings: BaseModel) -> dict[str, Any]:
    """The settings as plain values for JSON, in the order of the fields; `resolve` gives the same settings back."""
    return settings.model_dump(mode="json")


def changed(before: BaseModel | Mapping[str, Any], after: BaseModel | Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The dotted paths at which two settings differ, each with its value before and after, or ABSENT."""
    old, new = (dict(_flat(dump(side) if isinstance(side, BaseModel) else side)) for side in (before, after))
    pairs = {path: (old.get(path, ABSENT), new.get(path, ABSENT)) for path in {**old, **new}}
    return {path: (a, b) for path, (a, b) in pairs.items() if a != b or isinstance(a, bool) != isinstance(b, bool)}


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """Every leaf with its dotted path; an empty section or list is a leaf."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    inner = list(pairs)
    if not inner:
        yield path, value
    for key, below in inner:
        yield from _flat(below, f"{path}.{key}" if path else str(key))


def _over_defaults(shape: Shape, data: Any) -> Any:
    """`data` with each of its sections laid over the default of that section, where the default has the same type."""
    if isinstance(data, list | tuple) and shape.item is not None:
        return [_over_defaults(shape.item, value) for value in data]
    record = shape.chosen(data)
    if record is None or not isinstance(data, Mapping):
        return data
    full = dict(data)
    for name, field in record.model_fields.items():
        inner = shape_of(field)
        if isinstance(full.get(name), Mapping):
            default = _default(field)
            full[name] = _over_defaults(inner, _laid(full[name], default, inner.tag))
        elif name in full:
            full[name] = _over_defaults(inner, full[name])
    return full


def _default(field: FieldInfo) -> Any:
    """The default of a field, or None where it has none of its own."""
    own = not field.is_required() and not field.default_factory_takes_validated_data
    return field.get_default(call_default_factory=True) if own else None


def _laid(data: Mapping[str, Any], default: Any, tag: str) -> Mapping[str, Any]:
    """`data` over what the default says explicitly, unless `data` is of another type."""
    if not isinstance(default, BaseModel):
        return data
    base = default.model_dump(mode="json", exclude_unset=True)
    if tag:
        base = {tag: getattr(default, tag), **base}
        if data.get(tag, base[tag]) != base[tag]:
            return data
    return _deep(base, data)


def _deep(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {**base, **over}
    for name, value in base.items():
        if isinstance(value, Mapping) and isinstance(over.get(name), Mapping):
            both[name] = _deep(value, over[name])
    return both
