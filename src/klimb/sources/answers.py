"""Given answers to learn from by their likelihood."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from klimb.sources.base import Experience, Supplies
from klimb.sources.given import Given, group_of, turn
from klimb.types import Group


class Answers(Given):
    """At every step the chosen (or desirable) answers to `prompts` prompts."""

    type: Literal["answers"] = "answers"
    gives: ClassVar[frozenset[str]] = frozenset({"answers"})

    @property
    def completions(self) -> int:
        return 1

    def open(self, supplies: Supplies) -> Experience:
        good = [p for p in supplies.prompts if any(reply.chosen for reply in supplies.given.get(p.id, ()))]
        return AnswersExperience(self, replace(supplies, prompts=good))


class AnswersExperience:
    """The opened source."""

    def __init__(self, settings: Answers, supplies: Supplies) -> None:
        self._settings, self._supplies = settings, supplies

    def groups(self, step: int) -> list[Group]:
        """The answers of step `step`."""
        given = self._supplies.given
        return [
            group_of(self._settings, prompt, [reply for reply in given[prompt.id] if reply.chosen], self._supplies)
            for prompt in turn(self._supplies, step, self._settings.prompts)
        ]

    def metrics(self) -> dict[str, float]:
        """Nothing: how the answers came about is in the data."""
        return {}
