"""Prompts without answers, from a file of their own: what a policy is asked beside the prompts of its pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from klimb.config import Settings
from klimb.data.base import Data, Problems
from klimb.data.faulty import Faults
from klimb.data.mapping import Fields
from klimb.data.preferences import stem, table
from klimb.errors import DataError
from klimb.types import Message, Prompt


class Unlabelled(Settings):
    """A file of prompts: JSON rows (lines or a list, plain or gzip), CSV or Parquet, by the name's ending."""

    path: Path
    """The file, from the working directory."""
    field: str = "prompt"
    """The field with the prompt, a text or messages; what else a row has is not read."""
    prompts: Annotated[int, Field(ge=1)] | None = None
    """How many of them each step asks, each pass over the file in a new order; null = as many as there are pairs."""
    alone: bool = False
    """Sample for these only, and not for the prompts of the pairs."""

    def read(self, data: Data, problems: Problems) -> tuple[Prompt, ...]:
        """The prompts, put as `data` puts its own; those that it holds out are left out. Raises DataError."""
        faults, found = Faults(), list[Prompt]()
        fields = Fields(self.field, None, None, None, None, ())
        for number, row in table(self.path, faults):
            item = fields.item(row, f"{self.path}, row {number}", f"unlabelled/{stem(str(self.path))}:{number}", faults)
            if item is not None:
                found.append(data.ask(item.name, item.question, None))
        faults.check()
        held = {_key(prompt) for prompt in problems.held_out}
        kept = tuple(prompt for prompt in found if _key(prompt) not in held)
        if not kept:
            what = "none" if not found else f"{len(found)}, all of them held out"
            raise DataError(f"prompts in {self.path} (source.unlabelled)", what, "a file with other prompts, or null")
        return kept


def _key(prompt: Prompt) -> str:
    """What is asked as text, spaces made one."""
    turns = prompt.messages or (Message("", prompt.text or ""),)
    return "\x1f".join(f"{turn.role}:{' '.join(turn.content.split())}" for turn in turns)
