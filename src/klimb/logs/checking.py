"""Whether a rollouts file can be used: every fault with its row, its field and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from klimb.errors import DataError
from klimb.rollouts.form import CURE, fault, null, nulls
from klimb.rollouts.reading import SHARED, parts, prompt_of, rollout_of, transform_of

SHOWN = 20
"""The faults that are kept where not all are wanted; the number of all is said."""
ROUNDING = 1e-4
"""How far above zero a log-prob may lie: float arithmetic is not exact."""
Row = Mapping[str, Any]


@dataclass(slots=True)
class Checked:
    """What was found in a file. `missing` and `estimated` count rows by where their log-probs come from."""

    most: int | None = SHOWN
    rows: int = 0
    groups: int = 0
    missing: int = 0
    estimated: int = 0
    count: int = 0
    faults: list[DataError] = field(default_factory=list)

    def add(self, found: DataError) -> None:
        """One fault."""
        self.count += 1
        if self.most is None or len(self.faults) < self.most:
            self.faults.append(found)


def check(path: Path, most: int | None = SHOWN) -> Checked:
    """Reads the file in parts and keeps `most` faults (None = all). Raises DataError where it is no rollouts file.

    A row with a null where none may be has that fault alone: the others are looked for in rows that have a value.
    """
    found = Checked(most)
    first: Row | None = None
    before: Row | None = None
    try:
        for start, table in parts(path):
            lacking: dict[int, list[str]] = {}
            for row, name in nulls(table, start):
                lacking.setdefault(row, []).append(name)
            for row, value in enumerate(table.to_pylist(), start):
                found.rows += 1
                if row in lacking:
                    for name in lacking[row]:
                        found.add(null(path, row, name))
                    continue
                for one in _faults(path, row, value, first, before):
                    found.add(one)
                if first is None or value["group"] != first["group"]:
                    first = value
                    found.groups += 1
                before = value
                found.missing += bool(value["tokens"]) and not value["logps"]
                found.estimated += value["estimated"] is not None
    except DataError as error:
        if not found.rows:
            raise
        found.add(error)
    return found


def _faults(path: Path, row: int, value: Row, first: Row | None, before: Row | None) -> Iterator[DataError]:
    for part in (prompt_of, transform_of, rollout_of):
        try:
            part(path, row, value)
        except DataError as error:
            yield error
    for name, asked, found in (*_numbers(value), *_words(value), *_group(value, first), *_order(value, before)):
        yield fault(path, row, name, asked, found, CURE if name in ("group", *SHARED) else _CURES.get(name, CURE))


_CURES = {
    "tokens": "import the log again with the tokenizer that wrote it",
    "logps": "import the log again without them: they are then marked as missing",
    "reward": "null where a needed score failed",
}


def _numbers(value: Row) -> Iterator[tuple[str, str, str]]:
    """What is no token id, log-prob, entropy, or parameter of a sampler."""
    for name in ("prompt_tokens", "tokens"):
        if (bad := next((t for t in value[name] if t is None or t < 0), 0)) != 0:
            yield name, "token ids from 0", str(bad)
    for name, most in (("logps", ROUNDING), ("entropies", math.inf)):
        wrong = [x for x in value[name] if x is None or not math.isfinite(x) or x > most]
        if wrong:
            yield name, "finite numbers of at most 0" if name == "logps" else "finite numbers", str(wrong[0])
    for name, low, high in (("temperature", 0.0, 1e6), ("top_p", 1e-12, 1.0), ("top_k", 0, 2**31)):
        if value[name] is not None and not low <= value[name] <= high:
            yield name, f"a number from {low:g} to {high:g}", str(value[name])
    for name in ("step", "k", "group", "age"):
        if value[name] is not None and value[name] < 0:
            yield name, "a number from 0", str(value[name])


def _words(value: Row) -> Iterator[tuple[str, str, str]]:
    """What contradicts itself within a row."""
    if value["prompt_text"] is None and not value["messages"] and not value["prompt_tokens"]:
        yield "prompt_text", "a prompt as text, messages or tokens", "none of the three"
    if not value["tokens"] and not value["text"]:
        yield "tokens", "a completion as tokens or text", "neither"
    if value["estimated"] is not None and not value["logps"]:
        yield "logps", f"the log-probs that {value['estimated']!r} estimated", "none"
    if value["temperature"] is None and value["logps"] and value["estimated"] is None:
        yield "logps", "log-probs under a known temperature, top_p and top_k", "log-probs alone"


def _group(value: Row, first: Row | None) -> Iterator[tuple[str, str, str]]:
    """What differs from the first row of the same group, or is out of order."""
    if first is None:
        return
    if value["group"] < first["group"]:
        yield "group", f"rows in order of group, so at least {first['group']}", str(value["group"])
    for name in SHARED if value["group"] == first["group"] else ():
        if value[name] != first[name]:
            yield name, f"{str(first[name])[:60]!r} as in the rest of its group", repr(value[name])[:60]


def _order(value: Row, before: Row | None) -> Iterator[tuple[str, str, str]]:
    """A number of a completion that its group has had, or that comes too late."""
    if before is not None and value["group"] == before["group"] and value["k"] <= before["k"]:
        yield "k", f"rows in order of k, each once, so more than {before['k']}", str(value["k"])
