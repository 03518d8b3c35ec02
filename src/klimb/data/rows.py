"""Prompts from rows: a mapping of fields, and a split by prompt where nothing is held out by a file of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from klimb.data.base import Data, Example, Problems
from klimb.data.faulty import Faults
from klimb.data.mapping import Fields, Item
from klimb.data.patterns import Pattern
from klimb.errors import DataError
from klimb.seeds import seed_of
from klimb.types import Prompt


class Rows(Data):
    """What every source of rows can be told."""

    prompt: str = "prompt"
    """The field with the question: a text, or a list of messages."""
    template: str | None = None
    """Several fields joined into the question, such as "{Body} {Question}"; instead of `prompt`."""
    answer: str | None = "answer"
    """The field with the answer; null = there is none (for rewards that need none)."""
    answer_pattern: Pattern | None = None
    """Where the answer stands in that field: the first group of the last match, such as "#### (.*)"."""
    id: str | None = None
    """The field that names the row for ever; by default the file's name and the row's number."""
    columns: tuple[str, ...] = ()
    """Further fields that are handed to reward functions."""
    share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """The share of the prompts that is held out where there is no held-out file."""
    overlap: Literal["refuse", "drop"] = "refuse"
    """What to do with training rows whose prompt is also in the held-out file."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """How many rows to read of each file, at most."""
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0
    """Which prompts are held out where there is no held-out file."""

    def sides(self, faults: Faults) -> tuple[Iterator[tuple[str, int, Mapping[str, Any]]], ...]:
        """The training rows and, where they stand apart, the held-out rows: (name of the file, number, row)."""
        raise NotImplementedError

    def fields(self) -> Fields:
        """Which fields of a row are what."""
        return Fields(self.prompt, self.template, self.answer, self.answer_pattern, self.id, self.columns)

    def open(self) -> Problems:
        faults = Faults()
        sides = [self._items(rows, faults) for rows in self.sides(faults)]
        faults.check()
        for side in sides:
            if not side:
                raise DataError(f"rows in {self.source()}", "none", "give data with at least one row")
        train, held = self._apart(*sides) if len(sides) == 2 else self._split(sides[0])
        examples, train = self._examples(train)
        return Problems(self._prompts(train, examples), self._prompts(held, examples))

    def source(self) -> str:
        """What this reads, in words."""
        raise NotImplementedError

    def _items(self, rows: Iterator[tuple[str, int, Mapping[str, Any]]], faults: Faults) -> list[Item]:
        fields, items, places = self.fields(), list[Item](), dict[str, str]()
        for file, number, row in rows:
            where = f"{file}, row {number}"
            item = fields.item(row, where, f"{file.rpartition('/')[2].partition('.')[0]}:{number}", faults)
            if item is not None:
                if item.name in places:
                    faults.add(
                        f"{where}, field {self.id!r}", f"the id {item.name!r} of {places[item.name]}", "one id a row"
                    )
                places[item.name] = where
                items.append(item)
            if self.limit is not None and len(items) >= self.limit:
                break
        return items

    def _apart(self, train: list[Item], held: list[Item]) -> tuple[list[Item], list[Item]]:
        asked = {item.key: item.where for item in held}
        both = [item for item in train if item.key in asked]
        if both and self.overlap == "refuse":
            raise DataError(
                "training prompts that are not held out",
                f"{len(both)} that are: {both[0].where} asks the same as {asked[both[0].key]}",
                "overlap: drop, to learn from the others only",
            )
        return [item for item in train if item.key not in asked], held

    def _split(self, items: list[Item]) -> tuple[list[Item], list[Item]]:
        keys = sorted({item.key for item in items}, key=lambda key: seed_of("split", self.seed, key))
        if len(keys) < 2:
            raise DataError(
                f"different prompts in {self.source()}", "only one", "at least two, one of them to hold out"
            )
        out = set(keys[: min(len(keys) - 1, math.ceil(self.share * len(keys)))])
        return [item for item in items if item.key not in out], [item for item in items if item.key in out]

    def _examples(self, train: list[Item]) -> tuple[list[Example], list[Item]]:
        """The solved examples: the first training rows that can be shown, which are then not trained on."""
        shown = [item for item in train if isinstance(item.question, str) and item.answer is not None][: self.shots]
        if len(shown) < self.shots:
            raise DataError(f"{self.shots} solved examples", f"{len(shown)} rows for them", f"shots: {len(shown)}")
        names = {item.name for item in shown}
        examples = [Example(str(item.question), str(item.answer)) for item in shown]
        return examples, [item for item in train if item.name not in names]

    def _prompts(self, items: Sequence[Item], examples: Sequence[Example]) -> tuple[Prompt, ...]:
        return tuple(self.ask(i.name, i.question, i.answer, examples, i.columns) for i in items)
