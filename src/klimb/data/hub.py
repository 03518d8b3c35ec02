"""Prompts from a data set on the Hugging Face hub, by the `datasets` package (an extra)."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from klimb.data.faulty import Faults
from klimb.data.rows import Rows
from klimb.errors import DataError


class Hub(Rows):
    """Reads one split of a data set, and holds out another one, or else a share of the prompts."""

    type: Literal["hub"] = "hub"
    repository: str
    """The data set, such as "openai/gsm8k"."""
    subset: str | None = None
    """Which of its configurations."""
    split: str = "train"
    """The split with the training rows."""
    held_out: str | None = None
    """The split with the held-out rows."""
    revision: str | None = None
    """A commit, branch or tag, so that the data stay what they are."""

    def sides(self, faults: Faults) -> tuple[Iterator[tuple[str, int, Mapping[str, Any]]], ...]:
        splits = [self.split] if self.held_out is None else [self.split, self.held_out]
        return tuple(self._rows(split) for split in splits)

    def source(self) -> str:
        return f"the data set {self.repository}"

    def _rows(self, split: str) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
        try:
            datasets = importlib.import_module("datasets")
        except ImportError as error:
            raise DataError(f"{self.source()}", "no `datasets` package", "pip install 'klimb[datasets]'") from error
        try:
            rows = datasets.load_dataset(self.repository, self.subset, split=split, revision=self.revision)
        except Exception as error:
            found = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            cure = "check the names and the network, or fetch the files and use type: jsonl or parquet"
            raise DataError(f"split {split!r} of {self.source()}", found, cure) from error
        name = f"{self.repository}[{split}]"
        yield from ((name, number, row) for number, row in enumerate(rows, 1))
