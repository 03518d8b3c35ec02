"""Best-of-n: what an answer is worth that a reward likes best among n, for every n up to those that were drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import comb, log
from statistics import fmean
from typing import Any

import numpy as np

from klimb.evaluation.intervals import wilson


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its combined reward and the score of the source that says what is correct; None = it failed."""

    reward: float | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """What the best of n is worth, over the `prompts` prompts that have n usable answers.

    `kl` = log n - (n - 1)/n in nats, the most that choosing moves the policy; `reward` and `score` are means of the
    chosen answers, `correct` the share of them that is, with its 95 % interval over prompts (Wilson); `possible` is
    that share for a choice that knows what is correct (pass@n).
    """

    n: int
    kl: float
    prompts: int
    reward: float
    score: float
    correct: float
    low: float
    high: float
    possible: float


@dataclass(frozen=True, slots=True)
class BestOf:
    """The curve over n. `left_out` answers had no reward or no verdict, and are in none of it.

    `asked`: about how many prompts each source that makes the reward was asked. `itself`: the reward contains the
    source that says what is correct, so that the curve says nothing of it.
    """

    drawn: int
    rows: tuple[Row, ...]
    left_out: int
    asked: Mapping[str, int] = field(default_factory=dict)
    itself: bool = False

    def record(self) -> dict[str, Any]:
        """All of it as JSON would have it."""
        return asdict(self)


def expected_best(rewards: Sequence[float], values: Sequence[float], n: int) -> float:
    """The mean value of the answer with the highest reward, over all sets of n of the answers; ties share.

    sum over rewards r of [C(up to r, n) - C(under r, n)] / C(all, n) times the mean value of the answers with r.
    Raises ValueError where there are fewer answers than n, or none.
    """
    if not 1 <= n <= len(rewards) or len(values) != len(rewards):
        raise ValueError(f"the best {n} of {len(rewards)} answers with {len(values)} values")
    _, place, count = np.unique(np.asarray(rewards, np.float64), return_inverse=True, return_counts=True)
    sums, ends = np.bincount(place, np.asarray(values, np.float64)), np.cumsum(count)
    sets = [comb(int(end), n) - comb(int(end - size), n) for end, size in zip(ends, count, strict=True)]
    parts = (s / comb(len(rewards), n) * total / size for s, total, size in zip(sets, sums, count, strict=True))
    return float(sum(parts))


def curve(prompts: Sequence[Sequence[Answer]], threshold: float) -> tuple[tuple[Row, ...], int]:
    """The rows for n = 1, 2, 4, ... up to the answers drawn, and how many answers are left out.

    A score of at least `threshold` is correct.
    """
    usable = [
        [(one.reward, one.score) for one in answers if one.reward is not None and one.score is not None]
        for answers in prompts
    ]
    drawn = max((len(answers) for answers in prompts), default=0)
    sizes = sorted({*(1 << power for power in range(drawn.bit_length())), drawn} - {0})
    rows = [_row(n, [answers for answers in usable if len(answers) >= n], threshold) for n in sizes]
    left_out = sum(map(len, prompts)) - sum(map(len, usable))
    return tuple(row for row in rows if row is not None), left_out


def _row(n: int, prompts: Sequence[Sequence[tuple[float, float]]], threshold: float) -> Row | None:
    if not prompts:
        return None
    rewards = [[reward for reward, _ in answers] for answers in prompts]
    scores = [[score for _, score in answers] for answers in prompts]
    right = [[float(score >= threshold) for score in row] for row in scores]
    chosen = [expected_best(given, hits, n) for given, hits in zip(rewards, right, strict=True)]
    low, high = wilson(sum(chosen), len(chosen))
    return Row(
        n=n,
        kl=log(n) - (n - 1) / n,
        prompts=len(prompts),
        reward=fmean(expected_best(given, given, n) for given in rewards),
        score=fmean(expected_best(given, row, n) for given, row in zip(rewards, scores, strict=True)),
        correct=fmean(chosen),
        low=low,
        high=high,
        possible=fmean(expected_best(hits, hits, n) for hits in right),
    )
