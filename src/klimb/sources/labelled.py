"""Given answers that are desirable or not, and each beside a prompt that it does not belong to (KTO)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from klimb.sources.base import Experience, Supplies
from klimb.sources.given import Given, group_of, turn
from klimb.types import Group, Label


class Labelled(Given):
    """At every step the labelled answers to `prompts` prompts; a pair counts as a desirable and an undesirable one.

    The first answer to each prompt also stands, as mismatched, with the prompt before it: a reference point to measure.
    """

    type: Literal["labelled"] = "labelled"
    gives: ClassVar[frozenset[str]] = frozenset({"labels"})
    prompts: Annotated[int, Field(ge=2)] = 8
    """How many rows of the data each step learns from; two or more, since each is set against another's prompt."""

    def open(self, supplies: Supplies) -> Experience:
        return LabelledExperience(self, supplies)


class LabelledExperience:
    """The opened source."""

    def __init__(self, settings: Labelled, supplies: Supplies) -> None:
        self._settings, self._supplies = settings, supplies

    def groups(self, step: int) -> list[Group]:
        """The answers of step `step`, then the mismatched ones."""
        s = self._supplies
        own = [group_of(self._settings, p, s.given[p.id], s) for p in turn(s, step, self._settings.prompts)]
        return [*own, *(mismatched(group, own[index - 1]) for index, group in enumerate(own))]

    def metrics(self) -> dict[str, float]:
        """Nothing: how the answers came about is in the data."""
        return {}


def mismatched(group: Group, other: Group) -> Group:
    """The first answer of a group after the prompt of another one."""
    first = replace(group.rollouts[0], label=Label.MISMATCHED, reward=None, seed=-1)
    return replace(other, rollouts=(first,))
