"""Data sets on the Hugging Face hub, by the `datasets` package (an extra): which, and prompts from them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from klimb.config import Settings
from klimb.data.faulty import Faults
from klimb.data.rows import Rows
from klimb.errors import DataError

Row = Mapping[str, Any]


class HubSet(Settings):
    """Which data set it is, and which of its splits."""

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

    def splits(self) -> Iterator[tuple[str, Iterator[tuple[int, Row]]]]:
        """The training split and, where there is one, the held-out split: its name, and its rows by number from 1."""
        for split in filter(None, (self.split, self.held_out)):
            yield f"{self.repository}[{split}]", self._rows(split)

    def source(self) -> str:
        """What this reads, in words."""
        return f"the data set {self.repository}"

    def _rows(self, split: str) -> Iterator[tuple[int, Row]]:
        try:
            datasets = importlib.import_module("datasets")
        except ImportError as error:
            raise DataError(f"{self.source()}", "no `datasets` package", "pip install 'klimb[datasets]'") from error
        try:
            rows = datasets.load_dataset(self.repository, self.subset, split=split, revision=self.revision)
        except Exception as error:
            found = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            cure = "check the names and the network, or fetch the files and give their path"
            raise DataError(f"split {split!r} of {self.source()}", found, cure) from error
        yield from enumerate(rows, 1)


class Hub(HubSet, Rows):
    """Reads one split of a data set, and holds out another one, or else a share of the prompts."""

    type: Literal["hub"] = "hub"

    def sides(self, faults: Faults) -> tuple[Iterator[tuple[str, int, Row]], ...]:
        return tuple(_named(where, rows) for where, rows in self.splits())


def _named(where: str, rows: Iterator[tuple[int, Row]]) -> Iterator[tuple[str, int, Row]]:
    yield from ((where, number, row) for number, row in rows)
