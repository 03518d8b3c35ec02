"""The successes of a log, to learn by their likelihood."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from klimb.sources.unweighted import Unweighted
from klimb.types import Group, Label


class Successes(Unweighted):
    """At every step `prompts` groups of a log, of which only the answers are kept whose reward is at least `success`.

    What drew them does not matter: no log-probs are needed. Groups without a success are left out.
    """

    type: Literal["successes"] = "successes"  # type: ignore[assignment]
    gives: ClassVar[frozenset[str]] = frozenset({"answers"})
    lack: ClassVar[str] = "no success"

    def labelled(self, group: Group) -> Group | None:
        good = [row for row in group.rollouts if row.reward is not None and row.reward >= self.success]
        return replace(group, rollouts=tuple(replace(row, label=Label.CHOSEN) for row in good)) if good else None
