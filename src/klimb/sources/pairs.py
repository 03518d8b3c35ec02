"""Preference pairs from the data."""

from __future__ import annotations

from typing import ClassVar, Literal

from klimb.sources.base import Experience, Supplies
from klimb.sources.given import Given, pair_group, turn
from klimb.types import Group


class Pairs(Given):
    """At every step `prompts` pairs: a chosen and a rejected answer to the same prompt, which is computed once."""

    type: Literal["pairs"] = "pairs"
    gives: ClassVar[frozenset[str]] = frozenset({"pairs"})

    def open(self, supplies: Supplies) -> Experience:
        return PairsExperience(self, supplies)


class PairsExperience:
    """The opened source."""

    def __init__(self, settings: Pairs, supplies: Supplies) -> None:
        self._settings, self._supplies = settings, supplies

    def groups(self, step: int) -> list[Group]:
        """The pairs of step `step`."""
        prompts = turn(self._supplies, step, self._settings.prompts)
        return [pair_group(self._settings, prompt, self._supplies) for prompt in prompts]

    def metrics(self) -> dict[str, float]:
        """Nothing: how the pairs came about is in the data."""
        return {}
