"""Which tests coverage is measured in: it makes them half as fast, and so pauses where others are asked."""

from __future__ import annotations

import re
from collections.abc import Iterable

CORE = ("functional", "objectives", "bandits", "proving")
"""What has to be covered to the last branch, by the tests in folders of those names."""

OWN = re.compile(rf"tests/({'|'.join(CORE)})/")
WHOLE = re.compile(r"tests/(faults|laws|learning)/|tests/test_docs|tests/[\w/]*browser")
"""Tests of whole runs and sweeps, which cover what small ones do."""


def pauses(sources: Iterable[object], test: str) -> bool:
    """Whether coverage of these packages pauses in a test, its fixtures included; of others it never does."""
    measured = set(sources)
    if measured == {f"klimb.{name}" for name in CORE}:
        return OWN.match(test) is None
    return measured == {"klimb"} and WHOLE.match(test) is not None
