"""Preference pairs of a log: of each prompt's answers the best scored against the worst."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from klimb.sources.online_pairs import paired
from klimb.sources.pairing import BestWorst
from klimb.sources.unweighted import Unweighted
from klimb.types import Group


class LoggedPairs(Unweighted):
    """At every step `prompts` pairs of a log, each of a group's best and worst scored answers (offline DPO and kin).

    What drew them does not matter: no log-probs are needed. Groups whose answers are all as good are left out. To
    a reward model every answer ends with EOS, as in scoring, also one that was cut by its limit or a stop string.
    """

    type: Literal["logged_pairs"] = "logged_pairs"  # type: ignore[assignment]
    gives: ClassVar[frozenset[str]] = frozenset({"pairs"})
    lack: ClassVar[str] = "no pair"

    def labelled(self, group: Group) -> Group | None:
        both = paired(group, BestWorst()).learned
        return replace(group, rollouts=both) if both else None
