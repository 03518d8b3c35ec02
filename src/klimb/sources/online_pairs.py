"""Preference pairs of the policy's own samples: of each prompt's scored answers, as a pairing says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from klimb.errors import KlimbError
from klimb.seeds import seed_of
from klimb.sources.base import Experience, Supplies
from klimb.sources.online import Online, OnlineExperience
from klimb.sources.pairing import AnyPairing, BestWorst, Pairing
from klimb.types import Group


class OnlinePairs(Online):
    """Samples and scores as `online` does, then pairs the answers of each prompt by their rewards (online DPO).

    A prompt whose scored answers are all as good teaches nothing: a tie is never called a preference, and an answer
    that could not be scored is in no pair. The loss is a mean over the pairs of a step, whatever prompt they are of.
    """

    type: Literal["online_pairs"] = "online_pairs"  # type: ignore[assignment]
    gives: ClassVar[frozenset[str]] = frozenset({"pairs"})
    pairing: AnyPairing = BestWorst()
    """Which answers of a prompt are compared."""

    def faults(self) -> list[KlimbError]:
        """Two answers or more make a pair."""
        if self.learned:
            return super().faults()
        found = f"completions={self.completions}, which makes no pair"
        return [KlimbError("learn from pairs of samples", found, "completions=2 or more")]

    @property
    def learned(self) -> int:
        return 2 * self.pairing.most(self.completions)

    def open(self, supplies: Supplies) -> Experience:
        """The opened source."""
        return OnlinePairsExperience(self, OnlineExperience(self, supplies))


class OnlinePairsExperience:
    """The opened source."""

    def __init__(self, settings: OnlinePairs, inner: OnlineExperience) -> None:
        self._settings, self._inner = settings, inner
        self._told: dict[str, float] = {}

    def groups(self, step: int) -> list[Group]:
        """The samples of step `step`, with the pairs among them."""
        seed = seed_of("pairs", self._inner.supplies.seed, step)
        found = [paired(group, self._settings.pairing, seed) for group in self._inner.groups(step)]
        self._told = counted(found)
        return found

    @property
    def discarded(self) -> Sequence[Group]:
        """What was drawn beside them."""
        return self._inner.discarded

    def metrics(self) -> Mapping[str, float]:
        """What sampling has to tell, and how many pairs there are."""
        return {**self._inner.metrics(), **self._told}


def paired(group: Group, pairing: Pairing, seed: int = 0) -> Group:
    """The group with its pairs; a draw depends on `seed` and the prompt's id."""
    rewards = [rollout.reward for rollout in group.rollouts]
    return replace(group, pairs=pairing.pairs(rewards, seed_of("pairs", seed, group.prompt.id)))


def counted(groups: Sequence[Group]) -> dict[str, float]:
    """How many pairs there are, and the share of prompts that gave one."""
    numbers = [len(group.pairs or ()) for group in groups]
    share = sum(number > 0 for number in numbers) / len(numbers)
    return {"preference/paired": share, "preference/pairs": float(sum(numbers))}
