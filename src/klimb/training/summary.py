"""What the rollouts of a step say, as metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, pstdev

import numpy as np

from klimb.evaluation.diversity import diversity
from klimb.sources.base import tokens_of
from klimb.tracking.hacking import hacking
from klimb.types import Finish, Group, Outcome


def summarise(
    groups: Sequence[Group], discarded: Sequence[Group] = (), scored: Sequence[Group] | None = None
) -> dict[str, float]:
    """Rewards, outcomes, lengths and entropy of what was drawn in this step; of what is replayed, under other names.

    What was drawn beside them and `discarded` counts among the sampled tokens, and nowhere else. Where a step scores
    what an earlier one drew, the first are of what it `scored`.
    """
    fresh = [group for group in groups if group.age is None] if scored is None else scored
    again = [group for group in groups if group.age is not None]
    return (_drawn(fresh, discarded) if fresh else {"tokens/sampled": 0.0}) | (_replayed(again) if again else {})


def _replayed(groups: Sequence[Group]) -> dict[str, float]:
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    rewards = [rollout.reward for rollout in rollouts if rollout.reward is not None]
    out = {
        "replay/groups": float(len(groups)),
        "replay/length": fmean(len(rollout.completion.tokens) for rollout in rollouts),
        "replay/degenerate": fmean(group.degenerate for group in groups),
    }
    return out | ({"replay/reward": fmean(rewards)} if rewards else {})


def _drawn(groups: Sequence[Group], discarded: Sequence[Group]) -> dict[str, float]:
    """Of some groups; a mean of nothing is left out."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    lengths = [len(rollout.completion.tokens) for rollout in rollouts]
    out = {
        "length/mean": fmean(lengths),
        "length/truncated": fmean(r.completion.finish is Finish.LENGTH for r in rollouts),
        "tokens/sampled": float(sum(lengths) + tokens_of(discarded)),
    }
    if any(not rollout.label for rollout in rollouts):  # what learns without rewards is not compared by them
        out["group/degenerate"] = fmean(group.degenerate for group in groups)
    rewards = [rollout.reward for rollout in rollouts if rollout.reward is not None]
    if rewards:
        out |= {"reward/mean": fmean(rewards), "reward/std": pstdev(rewards)}
    entropies = [value for rollout in rollouts for value in rollout.completion.entropies]
    if entropies:
        out["policy/entropy"] = fmean(entropies)
        quantiles = np.quantile(entropies, (0.1, 0.5, 0.9)).tolist()
        out |= dict(zip(("policy/entropy_p10", "policy/entropy_p50", "policy/entropy_p90"), quantiles, strict=True))
    return out | diversity(groups) | _sources(groups) | (hacking(groups) if rewards else {})


def _sources(groups: Sequence[Group]) -> dict[str, float]:
    """The mean score of each source over what it scored, and the share of each outcome."""
    scores = [(name, score) for g in groups for rollout in g.rollouts for name, score in rollout.scores.items()]
    outcomes = Counter(score.outcome for _, score in scores)
    out = {f"outcome/{outcome}": outcomes[outcome] / len(scores) for outcome in Outcome} if scores else {}
    out |= {"outcome/asked": float(len(scores))} if scores else {}
    for name in sorted({name for name, _ in scores}):
        values = [score.value for other, score in scores if other == name and score.value is not None]
        if values:
            out[f"reward/{name}"] = fmean(values)
    return out
