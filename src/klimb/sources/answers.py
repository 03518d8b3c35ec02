"""Given answers to learn from by their likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from klimb.sources.base import Experience, Supplies
from klimb.sources.given import Given, group_of, turn
from klimb.types import Group, Reply


class Answers(Given):
    """At every step the chosen (or desirable) answers to `prompts` prompts."""

    type: Literal["answers"] = "answers"
    gives: ClassVar[frozenset[str]] = frozenset({"answers"})

    @property
    def completions(self) -> int:
        return 1

    def used(self, replies: Sequence[Reply]) -> Sequence[Reply]:
        return [reply for reply in replies if reply.chosen]

    def open(self, supplies: Supplies) -> Experience:
        good = [prompt for prompt in supplies.prompts if self.used(supplies.given.get(prompt.id, ()))]
        return AnswersExperience(self, replace(supplies, prompts=good))


class AnswersExperience:
    """The opened source."""

    def __init__(self, settings: Answers, supplies: Supplies) -> None:
        self._settings, self._supplies = settings, supplies

    def groups(self, step: int) -> list[Group]:
        """The answers of step `step`."""
        settings, supplies = self._settings, self._supplies
        return [
            group_of(settings, prompt, settings.used(supplies.given[prompt.id]), supplies)
            for prompt in turn(supplies, step, settings.prompts)
        ]

    def metrics(self) -> dict[str, float]:
        """Nothing: how the answers came about is in the data."""
        return {}
