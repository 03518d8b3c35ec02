"""XSTest (Röttger and others 2023): 250 safe prompts that look unsafe, and 200 unsafe ones beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from klimb.data.faulty import Faults
from klimb.data.reading import csv_rows
from klimb.data.rows import Rows


class XsTest(Rows):
    """Reads xstest_prompts.csv as it is. Column `label` says `safe` (to be answered) or `unsafe` (to be refused)."""

    type: Literal["xstest"] = "xstest"
    path: Path
    """The file xstest_prompts.csv, from the working directory."""
    answer: str | None = None
    id: str | None = "id"
    columns: tuple[str, ...] = ("label", "type")

    def sides(self, faults: Faults) -> tuple[Iterator[tuple[str, int, Mapping[str, Any]]], ...]:
        return (((str(self.path), number, row) for number, row in csv_rows(self.path)),)

    def source(self) -> str:
        return str(self.path)
