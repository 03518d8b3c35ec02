"""The verdict on logs, in words: enough, not enough or not known, and for which objectives; each with its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from klimb.sources.fitness import REASONS

ENOUGH = 100
"""Prompts, rows or effective rows below which what is learned is mostly noise."""
SHARE = 0.1
"""The share of rows that count, below which importance weights are not believable."""
MASS = 0.5
"""How far the mean ratio may be from 1, as a factor."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """For one family of objectives. `enough` is None where it is not known."""

    objectives: str
    enough: bool | None
    why: str

    @property
    def said(self) -> str:
        """The judgement as a word or two."""
        return {True: "enough", False: "not enough", None: "not known"}[self.enough]

    def line(self) -> str:
        """The judgement as a sentence."""
        return f"{self.said} for {self.objectives}: {self.why}"


def judge(facts: Mapping[str, Any]) -> list[Judgement]:
    """The judgements, the demanding objectives first."""
    return [_weighted(facts), _preferences(facts), _successes(facts)]


def _weighted(facts: Mapping[str, Any]) -> Judgement:
    """By the rows that a run would learn from; the others are no help, however many they are."""
    wants = "importance-weighted objectives (RPG, PPO, GRPO, REINFORCE with ratios)"
    fit, against = facts["fit"]["weighted"], facts["policy"]
    lacks = list(_lacks(facts, fit))
    if lacks:
        return Judgement(wants, False, "; ".join([*lacks, *_left(fit)]))
    if against is None:
        why = f"{fit['rows']:,} rows can be learned from; how many count is not known without --policy MODEL"
        return Judgement(wants, None, "; ".join([why, *_left(fit)]))
    share = against["effective"] / against["rows"]
    count = f"{against['rows']:,} rows count as {against['effective']:.1f}"
    if share < SHARE or share * fit["rows"] < ENOUGH:
        lacks.append(f"{count}, {100 * share:.1f} %")
    if not MASS <= against["mass"] <= 1 / MASS:
        lacks.append(f"the ratios have mean {against['mass']:.3g}; 1 says that the logs cover the policy's answers")
    return Judgement(wants, not lacks, "; ".join([*(lacks or [count]), *_left(fit)]))


def _lacks(facts: Mapping[str, Any], fit: Mapping[str, Any]) -> Iterator[str]:
    if fit["rows"] < ENOUGH:
        yield f"{fit['rows']:,} of {facts['rows']:,} rows can be learned from"
    elif fit["differing"] < ENOUGH:
        yield f"only {fit['differing']:,} prompts have answers with different rewards"


def _left(fit: Mapping[str, Any]) -> Iterator[str]:
    """What is left out, and what helps against the commonest reason."""
    if fit["why"]:
        yield fit["why"]
        yield f"try: {REASONS[max(fit['left'], key=fit['left'].get)][1]}"


def _preferences(facts: Mapping[str, Any]) -> Judgement:
    fit = facts["fit"]["plain"]
    why = f"{fit['differing']:,} prompts have answers with different rewards, which make pairs"
    enough = fit["differing"] >= ENOUGH
    return Judgement("preference objectives (DPO and its kin)", enough, "; ".join([why, *_left(fit)]))


def _successes(facts: Mapping[str, Any]) -> Judgement:
    fit = facts["fit"]["plain"]
    why = f"{fit['successes']:,} rows have a reward of at least {facts['success']:g}"
    enough = fit["successes"] >= ENOUGH
    return Judgement("supervised learning on the successes", enough, "; ".join([why, *_left(fit)]))
