"""Prompts from JSON files: one object a line, or one list of objects; plain or gzip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from klimb.data.faulty import Faults
from klimb.data.reading import rows_of
from klimb.data.rows import Rows


class Jsonl(Rows):
    """Reads `path`, and holds out the rows of `held_out`, or else a share of the prompts."""

    type: Literal["jsonl"] = "jsonl"
    path: Path
    """The file with the training rows, from the working directory."""
    held_out: Path | None = None
    """The file with the held-out rows."""

    def sides(self, faults: Faults) -> tuple[Iterator[tuple[str, int, Mapping[str, Any]]], ...]:
        paths = [self.path] if self.held_out is None else [self.path, self.held_out]
        return tuple(_named(path, faults) for path in paths)

    def source(self) -> str:
        return str(self.path)


def _named(path: Path, faults: Faults) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    return ((str(path), number, row) for number, row in rows_of(path, faults))
