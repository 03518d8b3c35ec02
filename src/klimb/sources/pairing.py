"""How preference pairs are made of a prompt's scored answers. Equal rewards and missing ones never make a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from klimb.config import Settings
from klimb.seeds import permutation

Rewards = Sequence[float | None]
"""Of each answer; None where it could not be scored."""
Places = tuple[tuple[int, int], ...]
"""Pairs of places among the answers: the preferred one first."""


class Pairing(Settings):
    """A way of making pairs."""

    def most(self, answers: int) -> int:
        """The most pairs that so many answers may give."""
        raise NotImplementedError

    def pairs(self, rewards: Rewards, seed: int) -> Places:
        """The pairs of some answers; a draw depends on `seed` alone."""
        raise NotImplementedError


class BestWorst(Pairing):
    """One pair: the best answer against the worst; of equals the first."""

    type: Literal["best_worst"] = "best_worst"

    def most(self, answers: int) -> int:
        return min(1, answers // 2)

    def pairs(self, rewards: Rewards, seed: int) -> Places:
        return ranked(rewards, 1)


class TopBottom(Pairing):
    """The `k` best against the `k` worst by rank: best with worst, second with second worst, no answer twice."""

    type: Literal["top_bottom"] = "top_bottom"
    k: Annotated[int, Field(ge=1)] = 4
    """How many pairs a prompt gives at most: fewer where it has less than 2 k answers, or ties between them."""

    def most(self, answers: int) -> int:
        return min(self.k, answers // 2)

    def pairs(self, rewards: Rewards, seed: int) -> Places:
        return ranked(rewards, self.k)


class RandomPairs(Pairing):
    """`count` different pairs, drawn from all in which one answer is better: LASeR's (2410.01735), with count=10.

    An answer may be in several pairs, and is run once for each.
    """

    type: Literal["random"] = "random"
    count: Annotated[int, Field(ge=1)] = 10
    """How many pairs a prompt gives at most: fewer where there are not so many with different rewards."""

    def most(self, answers: int) -> int:
        return min(self.count, answers * (answers - 1) // 2)

    def pairs(self, rewards: Rewards, seed: int) -> Places:
        known = [(place, reward) for place, reward in enumerate(rewards) if reward is not None]
        able = [(better, worse) for better, high in known for worse, low in known if high > low]
        return tuple(able[int(index)] for index in permutation(seed, 0, len(able))[: self.count])


AnyPairing = Annotated[BestWorst | TopBottom | RandomPairs, Field(discriminator="type")]


def ranked(rewards: Rewards, k: int) -> Places:
    """The i-th best answer with the i-th worst, for i up to `k`, where it is better; of equals the first counts more.

    The better half and the worse half of a ranking never meet in that way, so no answer is in two pairs.
    """
    known = [(reward, place) for place, reward in enumerate(rewards) if reward is not None]
    best, worst = sorted(known, key=lambda one: (-one[0], one[1])), sorted(known)
    return tuple((high[1], low[1]) for high, low in zip(best[:k], worst[:k], strict=True) if high[0] > low[0])
