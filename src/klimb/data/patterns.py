"""Regular expressions from settings: checked when they are read, and given a deadline when they are used."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any

import regex  # type: ignore[import-untyped]
from pydantic import AfterValidator

DEADLINE = 1.0
"""Seconds that one search may take; some patterns need years for some texts."""


def _checked(pattern: str) -> str:
    try:
        regex.compile(pattern)
    except (regex.error, re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern


Pattern = Annotated[str, AfterValidator(_checked)]


@lru_cache(maxsize=64)
def compiled(pattern: str, *, across_lines: bool = False) -> Any:
    """The pattern, compiled once; `.` matches line ends if asked. Its methods take `timeout=`, raising TimeoutError."""
    return regex.compile(pattern, regex.DOTALL if across_lines else 0)


def last_answer(pattern: str, text: str) -> str | None:
    """The first group (or the whole) of the pattern's last match in a text. Raises TimeoutError after a second."""
    last = None
    for match in compiled(pattern).finditer(text, timeout=DEADLINE):
        last = match
    if last is None:
        return None
    return str(last[1] or "") if last.re.groups else str(last[0])
