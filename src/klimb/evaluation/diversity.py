"""How different the completions of a step are from each other, and how much each repeats itself."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from klimb.types import Group

Tokens = Sequence[int]
REPEATED = 4
"""The length of the runs of tokens that count as repetition when they come again."""


def distinct(completions: Sequence[Tokens], n: int) -> float | None:
    """distinct-n: different n-grams over all n-grams of some completions (Li et al. 2016); None of none."""
    grams = [gram for tokens in completions for gram in _grams(tokens, n)]
    return len(set(grams)) / len(grams) if grams else None


def repetition(tokens: Tokens, n: int = REPEATED) -> float | None:
    """The share of a completion's n-grams that stood in it before; None where it is shorter than n."""
    grams = _grams(tokens, n)
    return 1 - len(set(grams)) / len(grams) if grams else None


def diversity(groups: Sequence[Group]) -> dict[str, float]:
    """distinct-1 and distinct-2 over each prompt's completions, repetition in each; means of what there is."""
    answers = [[rollout.completion.tokens for rollout in group.rollouts] for group in groups]
    found = {
        "diversity/distinct_1": [distinct(group, 1) for group in answers],
        "diversity/distinct_2": [distinct(group, 2) for group in answers],
        "diversity/repetition": [repetition(tokens) for group in answers for tokens in group],
    }
    there = {name: [value for value in values if value is not None] for name, values in found.items()}
    return {name: fmean(values) for name, values in there.items() if values}


def _grams(tokens: Tokens, n: int) -> list[Tokens]:
    return [tokens[start : start + n] for start in range(len(tokens) - n + 1)]
