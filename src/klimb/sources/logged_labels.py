"""Answers of a log that are desirable or not, and each beside a prompt that it does not belong to (KTO)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from klimb.errors import DataError
from klimb.sources.base import Demands, Experience, Supplies
from klimb.sources.fitness import Log
from klimb.sources.labelled import mismatched
from klimb.sources.replayed import ReplayedExperience
from klimb.sources.unweighted import Unweighted
from klimb.types import Group, Label


class LoggedLabels(Unweighted):
    """At every step the scored answers of `prompts` groups of a log: desirable with a reward of at least `success`.

    What drew them does not matter, and one answer a prompt is enough: a log of thumbs will do. All answers of
    a group also stand, as mismatched, with another prompt before it: a reference point to measure.
    """

    type: Literal["logged_labels"] = "logged_labels"  # type: ignore[assignment]
    gives: ClassVar[frozenset[str]] = frozenset({"labels"})
    lack: ClassVar[str] = "no score"
    prompts: Annotated[int, Field(ge=2)] = 8
    """How many groups each step learns from; two or more, since each is set against another's prompt."""

    def labelled(self, group: Group) -> Group:
        rows = ((row, row.reward) for row in group.rollouts if row.reward is not None)
        named = (replace(r, label=Label.CHOSEN if at >= self.success else Label.REJECTED) for r, at in rows)
        return replace(group, rollouts=tuple(named))

    def usable(self, log: Log, demands: Demands) -> Log:
        found = super().usable(log, demands)
        kinds = {row.label for held in found.held for row in held.group.rollouts}
        if len(kinds) < 2:
            what = "desirable" if Label.CHOSEN in kinds else "undesirable"
            raise DataError(
                f"tell desirable answers from others in {self.logs}",
                f"all {found.rows:,} scored answers are {what}: source.success={self.success:g}",
                "a source.success between their rewards, or objective.type=sft source.type=successes",
            )
        return found

    def open(self, supplies: Supplies) -> Experience:
        return LoggedLabelsExperience(self, supplies, self.read(supplies.demands))


class LoggedLabelsExperience(ReplayedExperience):
    """The opened source."""

    def groups(self, step: int) -> list[Group]:
        """The answers of step `step`, then the mismatched ones."""
        own = super().groups(step)
        return [*own, *mismatched(own, self._context)]
