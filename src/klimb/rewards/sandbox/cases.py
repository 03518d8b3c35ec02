"""The tests of a data row, in the forms in which data sets hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from klimb.rewards.sandbox.asserts import NoTest, Tests, asserts_of

MOST = 200
"""Tests of one prompt."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A program's input and the output that it must print."""

    given: str
    wanted: str


def cases_of(found: Any, names: tuple[str, str], setup: str = "") -> tuple[Pair, ...] | Tests:
    """Pairs from `[{input, output}, ...]` or `{inputs: [...], outputs: [...]}`, else assert lines; JSON text is read.

    `names` are those of the input and the output. Raises NoTest.
    """
    if isinstance(found, str) and found.lstrip()[:1] in ("[", "{"):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError) as error:
            raise NoTest(f"tests that start like JSON and are none: {error}") from error
    if isinstance(found, str):
        return asserts_of(found, setup)
    if isinstance(found, Mapping):
        columns = [found.get(name, found.get(f"{name}s")) for name in names]
        if not all(isinstance(one, Sequence) and not isinstance(one, str) for one in columns):
            raise NoTest(f"tests without the lists {names[0]}s and {names[1]}s")
        if len(columns[0]) != len(columns[1]):
            raise NoTest(f"{len(columns[0])} inputs for {len(columns[1])} outputs")
        found = [dict(zip(names, pair, strict=True)) for pair in zip(*columns, strict=True)]
    if not isinstance(found, Sequence) or not found or len(found) > MOST:
        raise NoTest(f"no tests, or more than {MOST}" if isinstance(found, Sequence) else "no tests in the row")
    if all(isinstance(one, str) for one in found):
        return asserts_of("\n".join(found), setup)
    return tuple(_pair(one, names) for one in found)


def _pair(one: Any, names: tuple[str, str]) -> Pair:
    if not isinstance(one, Mapping) or not all(name in one for name in names):
        raise NoTest(f"a test without {names[0]} and {names[1]}")
    given, wanted = (
        "\n".join(str(line) for line in value) if isinstance(value, list) else str(value)
        for value in (one[name] for name in names)
    )
    return Pair(given, wanted)
