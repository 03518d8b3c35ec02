"""Preference data from rows: pairs and labelled answers, split by prompt, every fault by row and field."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from klimb.data.base import Data, Problems
from klimb.data.faulty import Faults, Unfit
from klimb.data.reading import csv_rows, rows_of
from klimb.data.replies import FORMS, Answered, Columns
from klimb.errors import DataError
from klimb.seeds import seed_of
from klimb.types import Message, Prompt, Reply

Numbered = Iterable[tuple[int, Mapping[str, Any]]]
"""Rows with their numbers from 1."""


class PreferenceRows(Data):
    """What every source of preference rows can be told. Training rows whose prompt is also held out are left out."""

    answers: ClassVar[bool] = True
    type: str
    rows: Literal["pairs", "labelled", "hh", "pandalm", "llmbar", "xstest"] = "pairs"
    """The form of a row: prompt, chosen and rejected; prompt, completion and label; or that of a published set."""
    prompt: str | None = "prompt"
    """The field with the prompt, a text or messages; null = what both answers begin with, as conversations may."""
    chosen: str = "chosen"
    """The field with the preferred answer: a text, messages, or a conversation that begins with the prompt."""
    rejected: str = "rejected"
    """The field with the other answer."""
    completion: str = "completion"
    """The field with a labelled answer."""
    label: str = "label"
    """The field that says whether it is desirable."""
    scores: tuple[str, str] | None = None
    """The fields with the scores of the chosen and the rejected answer; dots lead into objects."""
    skip: bool = False
    """Leave out rows that cannot be used, in place of refusing the file."""
    share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """The share of the prompts that is held out where there is no held-out file."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """How many rows to read of each file, at most."""
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0
    """Which prompts are held out where there is no held-out file."""

    def open(self) -> Problems:
        """Reads the rows. Raises DataError with every fault."""
        return self.problems(*self.apart(Faults()))

    def tables(self, faults: Faults) -> list[tuple[str, Numbered]]:
        """The training rows, and the held-out ones where they stand apart: where they stand, and the rows."""
        raise NotImplementedError

    def source(self) -> str:
        """What this reads, in words."""
        raise NotImplementedError

    def apart(self, faults: Faults) -> tuple[dict[str, Answered], dict[str, Answered]]:
        """The training and the held-out rows by name, as they are given. Raises DataError with every fault."""
        tables = self.tables(faults)
        sides = [dict(self.usable(where, rows, faults)) for where, rows in tables]
        if not self.skip:
            faults.check()
        if not all(sides):
            raise DataError(f"preference rows in {self.source()}", "none that can be used", "see klimb data inspect")
        if len(sides) == 1:
            return self._split(sides[0])
        alike = len({stem(where) for where, _ in tables}) == 1
        return sides[0], {f"held/{name}" if alike else name: one for name, one in sides[1].items()}

    def problems(self, train: Mapping[str, Answered], held: Mapping[str, Answered]) -> Problems:
        """Both sides as prompts with their answers; training rows whose prompt is also held out are left out."""
        asked = {key_of(one) for one in held.values()}
        kept = {name: one for name, one in train.items() if key_of(one) not in asked}
        given = {name: one.replies for side in (kept, held) for name, one in side.items()}
        return Problems(self._prompts(kept), self._prompts(held), given=given)

    def usable(self, where: str, rows: Numbered, faults: Faults) -> Iterator[tuple[str, Answered]]:
        """The rows that can be used, by name; the others are added to the faults."""
        columns = Columns(self.prompt, self.chosen, self.rejected, self.completion, self.label, self.scores)
        for count, (number, row) in enumerate(rows):
            if self.limit is not None and count >= self.limit:
                break
            try:
                yield f"{stem(where)}:{number}", FORMS[self.rows](row, columns)
            except Unfit as error:
                faults.add(f"{where}, row {number}", error.found, error.cure)

    def _split(self, items: Mapping[str, Answered]) -> tuple[dict[str, Answered], dict[str, Answered]]:
        keys = sorted({key_of(one) for one in items.values()}, key=lambda key: seed_of("split", self.seed, key))
        if len(keys) < 2:
            raise DataError(f"different prompts in {self.source()}", "only one", "two or more, one of them to hold out")
        out = set(keys[: min(len(keys) - 1, math.ceil(self.share * len(keys)))])
        held = {name: one for name, one in items.items() if key_of(one) in out}
        return {name: one for name, one in items.items() if name not in held}, held

    def _prompts(self, items: Mapping[str, Answered]) -> tuple[Prompt, ...]:
        return tuple(self.ask(name, one.question, None) for name, one in items.items())


class Preferences(PreferenceRows):
    """Reads JSON rows (lines or a list, plain or gzip), CSV or Parquet; holds out a file or a share of the prompts."""

    type: Literal["preferences"] = "preferences"
    path: Path
    """The file with the training rows, from the working directory."""
    held_out: Path | None = None
    """The file with the held-out rows."""

    def tables(self, faults: Faults) -> list[tuple[str, Numbered]]:
        return [(str(path), table(path, faults)) for path in (self.path, self.held_out) if path is not None]

    def source(self) -> str:
        return str(self.path)

    def read(self, path: Path, faults: Faults) -> Iterator[tuple[str, Answered]]:
        """The rows of a file that can be used, by name; the others are added to the faults."""
        return self.usable(str(path), table(path, faults), faults)


def table(path: Path, faults: Faults) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a JSON, CSV or Parquet file (by its name's ending) with their numbers from 1. Raises DataError."""
    if path.suffix == ".csv":
        yield from csv_rows(path)
        return
    if path.suffix != ".parquet":
        yield from rows_of(path, faults)
        return
    import pyarrow as pa
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        found = (str(error).splitlines() or [""])[0][:160]
        raise DataError(f"rows of the Parquet file {path}", found, "give a whole Parquet file") from error
    yield from enumerate(rows, 1)


def stem(where: str) -> str:
    """A file's name without its endings: what its rows are named by, with their numbers."""
    return Path(where).name.partition(".")[0]


def key_of(one: Answered) -> str:
    """The prompt (of a dialogue its first turn) as text, spaces made one: never in both train and held-out rows."""
    asked = one.begins or one.question
    turns = asked if isinstance(asked, tuple) else (Message("user", asked),)
    return "\x1f".join(f"{turn.role}:{' '.join(turn.content.split())}" for turn in turns)


def identical(replies: Sequence[Reply]) -> bool:
    """Whether the two answers of a pair are the same text."""
    return len(replies) == 2 and replies[0].text == replies[1].text
