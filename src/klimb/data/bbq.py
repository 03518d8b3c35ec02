"""BBQ (Parrish and others 2022): questions that a stereotype answers, with and without the facts that do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from klimb.data.faulty import Faults
from klimb.data.mapping import Item
from klimb.data.reading import rows_of
from klimb.data.rows import Rows
from klimb.errors import DataError
from klimb.seeds import seed_of

LETTERS = "ABC"


class Bbq(Rows):
    """Reads a file of BBQ as it is; the answer is the letter of one of three options.

    Column `condition` says `ambig` (the context does not tell: that is the right answer) or `disambig` (it does).
    Training on ambiguous items alone pays for always abstaining; the held-out items are of both kinds, to see that.
    Items are made from templates: what is held out are templates (`question_index`), with every item of them.
    """

    type: Literal["bbq"] = "bbq"
    path: Path
    """A file such as bbq_Age.jsonl, from the working directory."""
    train: Literal["both", "ambig", "disambig"] = "both"
    """Which items are trained on."""
    prompt: str = "asked"
    answer: str | None = "letter"
    id: str | None = "name"
    columns: tuple[str, ...] = ("condition", "polarity", "category", "template")
    frame: str = "{question}\n\nAnswer with one letter: A, B or C."

    def sides(self, faults: Faults) -> tuple[Iterator[tuple[str, int, Mapping[str, Any]]], ...]:
        return (self._rows(faults),)

    def source(self) -> str:
        return str(self.path)

    def _rows(self, faults: Faults) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
        for number, row in rows_of(self.path, faults):
            try:
                yield str(self.path), number, _item(row)
            except (KeyError, IndexError, TypeError) as error:
                faults.add(f"{self.path}, row {number}", f"no row of BBQ: {error!r}", "give a file of BBQ as it is")

    def _split(self, items: list[Item]) -> tuple[list[Item], list[Item]]:
        names = {item.columns["template"] for item in items}
        keys = sorted(names, key=lambda name: seed_of("split", self.seed, name))
        if len(keys) < 2:
            raise DataError(f"different templates in {self.path}", "only one", "at least two, one of them to hold out")
        out = set(keys[: min(len(keys) - 1, math.ceil(self.share * len(keys)))])
        kinds = ("ambig", "disambig") if self.train == "both" else (self.train,)
        held = [item for item in items if item.columns["template"] in out]
        rest = [item for item in items if item.columns["template"] not in out]
        return [item for item in rest if item.columns["condition"] in kinds], _mixed(held)


def _mixed(items: list[Item]) -> list[Item]:
    """In an order that is a function of their names: an evaluation asks the first ones, and the file is sorted."""
    return sorted(items, key=lambda item: seed_of("bbq", item.name))


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    options = "\n".join(f"{letter}. {row[f'ans{place}']}" for place, letter in enumerate(LETTERS))
    return {
        "asked": f"{row['context']} {row['question']}\n{options}",
        "letter": LETTERS[row["label"]],
        "name": f"{row['category']}:{row['example_id']}",
        "condition": row["context_condition"],
        "polarity": row["question_polarity"],
        "category": row["category"],
        "template": f"{row['category']}:{row['question_index']}",
    }
