"""Signs that a reward is being gamed: what it rises with inside each prompt, and what falls while it rises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from klimb.correlation import Numbers, within
from klimb.types import Group, Rollout


def hacking(groups: Sequence[Group]) -> dict[str, float]:
    """`hacking/by_length`, and with several sources `hacking/with_<source>` and `hacking/disagreement`.

    All are rank correlations between answers to one prompt, pooled over the prompts; what does not vary inside any of
    them is left out. `with_` of a source of weight 0 is that of proxy and held-out score on the policy's own samples
    (Gao et al., 2210.10760).
    """
    rows = [(place, rollout) for place, group in enumerate(groups) for rollout in group.rollouts]
    inside, answers = [place for place, _ in rows], [rollout for _, rollout in rows]
    reward = _numbers([rollout.reward for rollout in answers])
    found = {"hacking/by_length": within(reward, _numbers([len(one.completion.tokens) for one in answers]), inside)}
    scores = scores_of(answers)
    if len(scores) > 1:
        found |= {f"hacking/with_{name}": within(reward, values, inside) for name, values in scores.items()}
        agreed = [within(a, b, inside) for a, b in combinations(scores.values(), 2)]
        if known := [one for one in agreed if one is not None]:
            found["hacking/disagreement"] = 1.0 - fmean(known)
    return {name: value for name, value in found.items() if value is not None}


def scores_of(answers: Sequence[Rollout]) -> dict[str, Numbers]:
    """The scores (answers,) of each source in the order of their names; NaN where it gave none."""
    names = sorted({name for one in answers for name in one.scores})
    return {name: _numbers([_value(one, name) for one in answers]) for name in names}


@dataclass(frozen=True, slots=True)
class Course:
    """A held-out score and the reward, as means over a window of steps: at the held-out score's best, and now.

    `sure`: the fall is more than three standard errors of the difference of the two means over steps.
    """

    step: int
    best: float
    now: float
    reward_then: float
    reward_now: float
    sure: bool

    @property
    def gamed(self) -> bool:
        """Whether the held-out score has fallen since its best while the reward rose."""
        return self.now < self.best and self.reward_now > self.reward_then


def course(lines: Sequence[Mapping[str, Any]], held_out: str, reward: str, window: int) -> Course | None:
    """How two metrics went, over the lines that have both; None where those do not fill two windows.

    Windows do not overlap, and the newest ends with the newest line; `step` is the last one of the best window.
    """
    rows = [line for line in lines if line.get(held_out) is not None and line.get(reward) is not None]
    parts = [rows[end - window : end] for end in range(len(rows), window - 1, -window)][::-1]
    if len(parts) < 2:
        return None
    judged = [np.array([float(line[held_out]) for line in part]) for part in parts]
    rewarded = [fmean(float(line[reward]) for line in part) for part in parts]
    best = int(np.argmax([values.mean() for values in judged]))
    before, after = judged[best], judged[-1]
    error = np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / window) if window > 1 else np.inf
    return Course(
        int(parts[best][-1]["step"]),
        float(before.mean()),
        float(after.mean()),
        rewarded[best],
        rewarded[-1],
        bool(before.mean() - after.mean() > 3 * error),
    )


def _value(answer: Rollout, name: str) -> float | None:
    score = answer.scores.get(name)
    return None if score is None else score.value


def _numbers(values: Sequence[float | None]) -> Numbers:
    return np.array([np.nan if value is None else value for value in values], np.float64)
