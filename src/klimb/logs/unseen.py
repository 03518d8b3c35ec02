"""A field or score that a map of the user's own names and that is not there is a slip of the pen: it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from klimb.data.faulty import show
from klimb.errors import KlimbError, SettingsError
from klimb.logs.maps import LogMap
from klimb.logs.values import ABSENT, at
from klimb.nearest import nearest


def refuse_unseen(
    source: Path, rows: Sequence[tuple[int, Mapping[str, Any]]], mapping: LogMap, own: frozenset[str]
) -> None:
    """Raises SettingsError for each field of the map's own settings that stands in no row."""
    faults = []
    for name, path in mapping.paths().items():
        setting = name.partition(".")[0]
        if setting not in own or path.startswith("each.") or not rows:
            continue
        if all(at(row, path)[1] is ABSENT for _, row in rows):
            has = list(dict.fromkeys(key for _, row in rows[:100] for key in row))
            near = nearest(path, has)
            cure = f"{name}: {near}" if near else "a field that is there, such as request.temperature for one inside"
            faults.append(
                KlimbError(f"{name}: {path}, a field of {source}", f"no row has it; there are {show(has, 100)}", cure)
            )
    if faults:
        raise SettingsError(faults)


def refuse_unscored(mapping: LogMap) -> None:
    """Raises SettingsError for each weight of a score that the map does not have: no row would have a reward."""
    faults = []
    for name in sorted(set(mapping.weights) - set(mapping.scores)):
        near = nearest(name, mapping.scores)
        cure = f"weights.{near}" if near else "a name of scores"
        has = show(", ".join(mapping.scores) or "nothing", 100)
        faults.append(KlimbError(f"weights.{name}: the share of a score", f"no such score; there are {has}", cure))
    if faults:
        raise SettingsError(faults)
