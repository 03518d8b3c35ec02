"""JSON as klimb writes it: strict, sorted, no NaN; one record a line where a file grows."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from klimb.atomic import write_atomic
from klimb.errors import RunError

DISCARDED = ".discarded.parquet"
"""How the name of a file of rollouts ends that were drawn and not learned from."""


def plain(value: Any, name: str = "", bad: list[str] | None = None) -> Any:
    """A JSON value: numbers out of numpy and torch, paths as text, what is not finite as null (named in `bad`)."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _missing(name, bad)
    if isinstance(value, Mapping):
        return {str(key): plain(inner, f"{name}.{key}" if name else str(key), bad) for key, inner in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(inner, name, bad) for inner in value), key=repr)
    if isinstance(value, (list, tuple)):
        return [plain(inner, name, bad) for inner in value]
    if callable(item := getattr(value, "item", None)):
        return plain(item(), name, bad)
    return str(value)


def _missing(name: str, bad: list[str] | None) -> None:
    if bad is not None:
        bad.append(name)


def pretty(value: Mapping[str, Any]) -> str:
    """JSON for people: sorted, indented, one newline at the end."""
    return json.dumps(plain(value), sort_keys=True, indent=2, allow_nan=False) + "\n"


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Every leaf of nested settings by its dotted path; an empty section or list is a leaf."""
    inside = dict(enumerate(value)) if isinstance(value, (list, tuple)) else value
    found: dict[str, Any] = {}
    for key, inner in inside.items() if isinstance(inside, Mapping) else ():
        found |= flatten(inner, f"{path}.{key}" if path else str(key))
    return found or {path: value}


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Adds one record (of plain values) to a file of lines, in one flushed write."""
    with path.open("ab") as file:
        file.write(json.dumps(record, sort_keys=True, allow_nan=False).encode("ascii") + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises RunError where there is none."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"a JSON object in {path}", str(error), "restore the file, or start a new run") from error
    if not isinstance(value, dict):
        raise RunError(f"a JSON object in {path}", type(value).__name__, "restore the file, or start a new run")
    return value


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole record of a file of lines, but for a torn last one. Raises RunError for a broken one before it."""
    if not path.exists():
        return []
    records = [_parse(line) for line in _lines(path)]
    for number, record in enumerate(records[:-1], 1):
        if record is None:
            raise RunError(f"one JSON record a line in {path}", f"line {number} is not one", "restore or remove it")
    return [record for record in records if record is not None]


def drop_torn_line(path: Path) -> None:
    """Cuts off what stands after the last newline: a write that was interrupted."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
            os.fsync(file.fileno())


def keep_until(path: Path, step: int) -> None:
    """Keeps the records up to `step`; broken lines after them go. Raises RunError for a broken one between them."""
    if not path.exists():
        return
    lines = _lines(path)
    steps = [record.get("step") if (record := _parse(line)) else None for line in lines]
    kept = [index for index, found in enumerate(steps) if isinstance(found, int) and found <= step]
    end = kept[-1] + 1 if kept else 0
    for number, found in enumerate(steps[:end], 1):
        if not isinstance(found, int):
            raise RunError(f"one JSON record a line in {path}", f"line {number} is not one", "restore or remove it")
    if len(kept) < len(lines):
        write_atomic(path, b"".join(lines[index] for index in kept))


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def _parse(line: bytes) -> dict[str, Any] | None:
    """The record of a whole line; None where it is torn or not a record."""
    try:
        value = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def used(folder: Path) -> list[Path]:
    """The rollouts files of a folder, in order, without those of what was discarded."""
    return sorted(path for path in folder.glob("*.parquet") if not path.name.endswith(DISCARDED))
