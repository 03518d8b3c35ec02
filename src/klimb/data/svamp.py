"""SVAMP (Patel and others 2021): one-step problems in words, with answers that are numbers."""

from __future__ import annotations

from typing import Literal

from klimb.data.jsonl import Jsonl


class Svamp(Jsonl):
    """Reads SVAMP.json as it is. Its problems come in variants of one story, which the split by prompt may part."""

    type: Literal["svamp"] = "svamp"  # type: ignore[assignment]
    template: str | None = "{Body} {Question}"
    answer: str | None = "Answer"
    id: str | None = "ID"
