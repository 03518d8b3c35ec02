"""What every generated task is: operands drawn by name, a question, an answer, and classes that are never shared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from klimb.data.base import Data, Example, Problems
from klimb.errors import DataError, KlimbError, SettingsError
from klimb.seeds import seed_of
from klimb.types import Prompt

Operands = tuple[int | str, ...]
PATIENCE = 5_000
"""How many draws in a row may bring nothing new before a task counts as used up."""


class Draws:
    """Random numbers that depend on a name only, on every machine and for ever."""

    def __init__(self, *names: int | str) -> None:
        self._key, self._count = seed_of(*names), 0

    def below(self, bound: int) -> int:
        """A number from 0 to bound - 1."""
        self._count += 1
        return seed_of(self._key, self._count) % bound

    def between(self, least: int, most: int) -> int:
        """A number from `least` to `most`, both included."""
        return least + self.below(most - least + 1)


class Generated(Data):
    """A task whose problems are made from operands.

    Problems whose operands are the same, in whatever order, are one class; a quarter of the classes is held out, chosen
    by a hash of the class and the seed. Training draws from the others, so an easy problem may come more than once;
    the held-out problems are all different.
    """

    type: str
    form: Literal["chat", "text"] = "text"
    train: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    """How many training problems are drawn."""
    held_out: Annotated[int, Field(ge=1, le=100_000)] = 256
    """How many different held-out problems, at most: small tasks have fewer."""
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0
    """Which problems are drawn and which are held out."""

    def draw(self, draws: Draws) -> Operands:
        """The operands of one problem."""
        raise NotImplementedError

    def question(self, operands: Operands) -> str:
        """The question about the operands."""
        raise NotImplementedError

    def answer(self, operands: Operands) -> str:
        """The right answer."""
        raise NotImplementedError

    def kind(self, operands: Operands) -> str:
        """The class: what train and held-out problems never have in common."""
        return repr(tuple(sorted(operands, key=str)))

    def faults(self) -> list[KlimbError]:
        """What does not fit together in these settings."""
        return []

    def open(self) -> Problems:
        if found := self.faults():
            raise SettingsError(found)
        examples = [Example(self.question(o), self.answer(o)) for o in self._take("shots", self.shots)]
        held = list(self._different("held_out", self.held_out))
        if not held:
            raise DataError(
                f"held-out problems of {self.type}", "none with these settings", "a larger range or seed + 1"
            )

        def prompts(side: str, drawn: list[Operands]) -> tuple[Prompt, ...]:
            return tuple(
                self.ask(f"{self.type}-{side}-{number}", self.question(o), self.answer(o), examples)
                for number, o in enumerate(drawn)
            )

        return Problems(prompts("train", self._take("train", self.train)), prompts("held-out", held))

    def _take(self, purpose: str, count: int) -> list[Operands]:
        """The first `count` draws whose class is not held out."""
        taken: list[Operands] = []
        draws, misses = Draws(self.type, purpose, self.seed), 0
        while len(taken) < count:
            operands = self.draw(draws)
            misses += 1
            if not self._is_held_out(operands):
                taken.append(operands)
                misses = 0
            elif misses > PATIENCE:
                raise DataError(f"training problems of {self.type}", "none with these settings", "a larger range")
        return taken

    def _different(self, purpose: str, count: int) -> Iterator[Operands]:
        """Up to `count` different draws whose class is held out."""
        seen: set[Operands] = set()
        draws, misses = Draws(self.type, purpose, self.seed), 0
        while len(seen) < count and misses < PATIENCE:
            operands = self.draw(draws)
            misses += 1
            if self._is_held_out(operands) and operands not in seen:
                seen.add(operands)
                misses = 0
                yield operands

    def _is_held_out(self, operands: Operands) -> bool:
        name = f"{self.type}\x1f{self.seed}\x1f{self.kind(operands)}"
        return hashlib.blake2b(name.encode("utf-8"), digest_size=1).digest()[0] < 64
