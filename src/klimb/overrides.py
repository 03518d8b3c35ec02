"""`key=value` words over a recipe: dotted paths, list indices, values as YAML scalars."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from klimb.errors import KlimbError, SettingsError
from klimb.schema import shape_at
from klimb.yamltext import scalar


def apply_words(data: dict[str, Any], words: Iterable[str], record: type[BaseModel] | None = None) -> dict[str, Any]:
    """`data` with the words applied in order, as a copy. Raises SettingsError with every word that cannot be applied.

    Where `record` says that a setting is text, the word's value stays text (`run=7` is the folder "7").
    """
    changed, faults = apply_each(data, words, record)
    if faults:
        raise SettingsError(faults)
    return changed


def apply_each(
    data: dict[str, Any], words: Iterable[str], record: type[BaseModel] | None = None
) -> tuple[dict[str, Any], list[KlimbError]]:
    """`data` with the words applied that can be, and a fault for each of the others."""
    changed = copy.deepcopy(data)
    faults: list[KlimbError] = []
    for word in words:
        try:
            _apply(changed, word, record)
        except SettingsError as error:
            faults += error.faults
        except KlimbError as error:
            faults.append(error)
    return changed, faults


def paths_of(words: Iterable[str]) -> set[str]:
    """The dotted paths that the words set."""
    return {word.partition("=")[0] for word in words}


def _apply(data: dict[str, Any], word: str, record: type[BaseModel] | None) -> None:
    path, equals, text = word.partition("=")
    if not equals:
        raise KlimbError(f"the word `{word}` must be key=value", "no `=`", f"{word}=VALUE")
    parts = path.split(".")
    if not all(parts) or any(part != part.strip() for part in parts):
        raise KlimbError(f"the word `{word}` must be key=value", f"the key `{path}`", "such as optimizer.lr=1e-5")
    target: Any = data
    for depth, part in enumerate(parts[:-1]):
        target = _enter(target, part, ".".join(parts[: depth + 1]), word)
    _put(target, parts[-1], _value(data, parts, text, record), ".".join(parts[:-1]), word)


def _enter(target: Any, part: str, path: str, word: str) -> Any:
    """What stands at `part` of a mapping or list, made where it is not there."""
    if isinstance(target, list):
        index = _index(target, part, path, word)
        if index == len(target):
            target.append({})
        inner = target[index]
    else:
        inner = target.setdefault(part, {})
        if inner is None:
            inner = target[part] = {}
    if not isinstance(inner, dict | list):
        raise KlimbError(f"the word `{word}` needs the section {path}", f"{inner!r:.60}", f"set {path} as a whole")
    return inner


def _put(target: Any, part: str, value: Any, path: str, word: str) -> None:
    if isinstance(target, list):
        index = _index(target, part, f"{path}.{part}", word)
        target[index : index + 1] = [value]
    else:
        target[part] = value


def _index(target: list[Any], part: str, path: str, word: str) -> int:
    """The index that `part` says; one past the end adds an element."""
    if part.isascii() and part.isdigit() and len(part) < 6 and int(part) <= len(target):
        return int(part)
    parent = path.rpartition(".")[0]
    held = f"{parent} is a list of {len(target)}"
    raise KlimbError(f"the word `{word}` must name an element", held, f"a number from 0 to {len(target)}")


def _value(data: dict[str, Any], parts: list[str], text: str, record: type[BaseModel] | None) -> Any:
    value = scalar_or_fault(text)
    if record is None or isinstance(value, str | list | dict):
        return value
    shape = shape_at(record, parts, data)
    keeps = shape is not None and shape.is_text and not (value is None and shape.none)
    return text if keeps else value


def scalar_or_fault(text: str) -> Any:
    """The value that a word's text says. Raises KlimbError where it is none."""
    try:
        return scalar(text)
    except ValueError:
        raise KlimbError("a word's value cannot be read", f"{len(text)} digits", "a shorter number") from None
