"""Preference pairs of the policy's own samples: of each prompt's answers the best scored against the worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from klimb.sources.base import Experience, Supplies
from klimb.sources.online import Online, OnlineExperience
from klimb.types import Group, Label


class OnlinePairs(Online):
    """Samples and scores as `online` does, then pairs the best answer of each prompt with the worst (online DPO).

    A prompt whose scored answers are all as good teaches nothing: a tie is never called a preference, and an answer
    that could not be scored is in no pair.
    """

    type: Literal["online_pairs"] = "online_pairs"  # type: ignore[assignment]
    gives: ClassVar[frozenset[str]] = frozenset({"pairs"})

    def open(self, supplies: Supplies) -> Experience:
        """The opened source."""
        return OnlinePairsExperience(OnlineExperience(self, supplies))


class OnlinePairsExperience:
    """The opened source."""

    def __init__(self, inner: OnlineExperience) -> None:
        self._inner, self._share = inner, 0.0

    def groups(self, step: int) -> list[Group]:
        """The samples of step `step`, the chosen one of each prompt before the rejected one."""
        found = [labelled(group) for group in self._inner.groups(step)]
        self._share = sum(group.rollouts[0].label is Label.CHOSEN for group in found) / len(found)
        return found

    @property
    def discarded(self) -> Sequence[Group]:
        """What was drawn beside them."""
        return self._inner.discarded

    def metrics(self) -> Mapping[str, float]:
        """What sampling has to tell, and the share of prompts that gave a pair."""
        return {**self._inner.metrics(), "preference/paired": self._share}


def labelled(group: Group) -> Group:
    """The group with its best and worst scored answer first, labelled (the first of equals); the others passed over."""
    scored = sorted(
        (rollout for rollout in group.rollouts if rollout.reward is not None),
        key=lambda rollout: (-(rollout.reward or 0.0), rollout.k),
    )
    if group.degenerate:
        return replace(group, rollouts=tuple(replace(one, label=Label.PASSED) for one in group.rollouts))
    worst = min(scored, key=lambda rollout: (rollout.reward or 0.0, rollout.k))
    pair = (replace(scored[0], label=Label.CHOSEN), replace(worst, label=Label.REJECTED))
    ends = {scored[0].k, worst.k}
    rest = (replace(one, label=Label.PASSED) for one in group.rollouts if one.k not in ends)
    return replace(group, rollouts=(*pair, *rest))
