"""Given answers that are desirable or not, and each beside a prompt that it does not belong to (KTO)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from klimb.sources.base import Experience, Supplies
from klimb.sources.given import Given, group_of, turn
from klimb.types import Group, Label


class Labelled(Given):
    """At every step the labelled answers to `prompts` prompts; a pair counts as a desirable and an undesirable one.

    All answers to a prompt also stand, as mismatched, after the nearest prompt before it (in a circle) that is another
    one, and after which they fit into the model: a reference point to measure. A step in which all prompts are the same
    has none, and the point is zero.
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
        return [*own, *mismatched(own, s.context)]

    def metrics(self) -> dict[str, float]:
        """Nothing: how the answers came about is in the data."""
        return {}


def mismatched(own: Sequence[Group], context: int) -> list[Group]:
    """The answers of each group after the nearest other prompt before it (in a circle); none where there is none.

    One after which they are longer than the context is passed over.
    """
    found: list[Group] = []
    for index, group in enumerate(own):
        room = context - max((len(row.completion.tokens) for row in group.rollouts), default=0)
        before = (own[index - back] for back in range(1, len(own)))
        fit = (one for one in before if len(one.prompt.tokens) <= room)
        other = next((one for one in fit if one.prompt.tokens != group.prompt.tokens), None)
        if other is not None:
            rows = (replace(one, label=Label.MISMATCHED, reward=None, seed=-1) for one in group.rollouts)
            found.append(replace(other, rollouts=tuple(rows)))
    return found
