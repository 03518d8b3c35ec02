"""Whether a rollouts file can be used: every fault with its row, its field and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from klimb.errors import DataError
from klimb.rollouts import tables
from klimb.rollouts.form import CURE, fault
from klimb.rollouts.reading import SHARED, prompt_of, rollout_of, transform_of

SHOWN = 20
"""The faults that are kept; the number of all is said."""
ROUNDING = 1e-4
"""How far above zero a log-prob may lie: float arithmetic is not exact."""


@dataclass(slots=True)
class Checked:
    """What was found in a file. `missing` and `estimated` count rows by where their log-probs come from."""

    rows: int = 0
    groups: int = 0
    missing: int = 0
    estimated: int = 0
    count: int = 0
    faults: list[DataError] = field(default_factory=list)

    def add(self, found: DataError) -> None:
        """One fault."""
        self.count += 1
        if len(self.faults) < SHOWN:
            self.faults.append(found)


def check(path: Path) -> Checked:
    """Reads the whole file in parts. Raises DataError where it is no rollouts file at all."""
    found = Checked()
    first: Mapping[str, Any] | None = None
    try:
        for start, table in tables(path):
            for row, value in enumerate(table.to_pylist(), start):
                for one in _faults(path, row, value, first):
                    found.add(one)
                if first is None or value["group"] != first["group"]:
                    first = value
                    found.groups += 1
                found.rows += 1
                found.missing += bool(value["tokens"]) and not value["logps"]
                found.estimated += value["estimated"] is not None
    except DataError as error:
        if not found.rows and ", row " not in error.asked:
            raise
        found.add(error)
    return found


def _faults(path: Path, row: int, value: Mapping[str, Any], first: Mapping[str, Any] | None) -> Iterator[DataError]:
    for part in (prompt_of, transform_of, rollout_of):
        try:
            part(path, row, value)
        except DataError as error:
            yield error
    for name, asked, found in (*_numbers(value), *_words(value), *_group(value, first)):
        yield fault(path, row, name, asked, found, CURE if name in ("group", *SHARED) else _CURES.get(name, CURE))


_CURES = {
    "tokens": "import the log again with the tokenizer that wrote it",
    "logps": "import the log again without them: they are then marked as missing",
    "reward": "null where a needed score failed",
}


def _numbers(value: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What is no token id, log-prob, entropy, or parameter of a sampler."""
    for name in ("prompt_tokens", "tokens"):
        if (bad := next((t for t in value[name] if t is None or t < 0), 0)) != 0:
            yield name, "token ids from 0", str(bad)
    for name, most in (("logps", ROUNDING), ("entropies", math.inf)):
        wrong = [x for x in value[name] if x is None or math.isnan(x) or x > most]
        if wrong:
            yield name, "numbers of at most 0" if name == "logps" else "numbers", str(wrong[0])
    for name, low, high in (("temperature", 0.0, 1e6), ("top_p", 1e-12, 1.0), ("top_k", 0, 2**31)):
        if value[name] is not None and not low <= value[name] <= high:
            yield name, f"a number from {low:g} to {high:g}", str(value[name])
    for name in ("step", "k", "group"):
        if value[name] < 0:
            yield name, "a number from 0", str(value[name])


def _words(value: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What contradicts itself within a row."""
    if value["prompt_text"] is None and not value["messages"] and not value["prompt_tokens"]:
        yield "prompt_text", "a prompt as text, messages or tokens", "none of the three"
    if not value["tokens"] and not value["text"]:
        yield "tokens", "a completion as tokens or text", "neither"
    if value["estimated"] is not None and not value["logps"]:
        yield "logps", f"the log-probs that {value['estimated']!r} estimated", "none"
    if value["temperature"] is None and value["logps"] and value["estimated"] is None:
        yield "logps", "log-probs under a known temperature, top_p and top_k", "log-probs alone"


def _group(value: Mapping[str, Any], first: Mapping[str, Any] | None) -> Iterator[tuple[str, str, str]]:
    """What differs from the first row of the same group, or is out of order."""
    if first is None:
        return
    if value["group"] < first["group"]:
        yield "group", f"rows in order of group, so at least {first['group']}", str(value["group"])
    for name in SHARED if value["group"] == first["group"] else ():
        if value[name] != first[name]:
            yield name, f"{str(first[name])[:60]!r} as in the rest of its group", repr(value[name])[:60]
