"""The verdict on logs, in words: enough or not, and for which objectives; each with the numbers that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ENOUGH = 100
"""Prompts, rows or effective rows below which what is learned is mostly noise."""
SHARE = 0.1
"""The share of rows, effective or with log-probs, below which importance weights are not believable."""

MASS = 0.5
"""How far the mean ratio may be from 1, as a factor."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """For one family of objectives."""

    objectives: str
    fit: bool
    why: str

    def line(self) -> str:
        """The judgement as a sentence."""
        return f"{'enough' if self.fit else 'not enough'} for {self.objectives}: {self.why}"


def judge(facts: Mapping[str, Any]) -> list[Judgement]:
    """The judgements, the demanding objectives first."""
    return [_weighted(facts), _preferences(facts), _successes(facts)]


def _weighted(facts: Mapping[str, Any]) -> Judgement:
    wants = "importance-weighted objectives (RPG, PPO, GRPO, REINFORCE with ratios)"
    lacks = list(_lacks(facts))
    against = facts["policy"]
    if against is None and not lacks:
        why = f"{facts['logged']:,} rows have log-probs; how many count is not known without --policy MODEL"
        return Judgement(wants, False, why)
    if against is not None:
        share = against["effective"] / against["rows"]
        whole = share * facts["with_logps"]
        if share < SHARE or whole < ENOUGH:
            lacks.append(f"{against['rows']:,} rows count as {against['effective']:.1f}, {100 * share:.1f} %")
        if not MASS <= against["mass"] <= 1 / MASS:
            lacks.append(f"the ratios have mean {against['mass']:.3g}; 1 says that the logs cover the policy's answers")
        if not lacks:
            return Judgement(wants, True, f"{against['rows']:,} rows count as {against['effective']:.1f}" + _but(facts))
    return Judgement(wants, False, "; ".join(lacks) + _but(facts))


def _lacks(facts: Mapping[str, Any]) -> Iterator[str]:
    rows = max(facts["rows"], 1)
    if facts["with_logps"] / rows < SHARE:
        yield f"only {facts['with_logps']:,} of {facts['rows']:,} rows have log-probs of who wrote them"
    if facts["scored"] < ENOUGH:
        yield f"only {facts['scored']:,} rows have a reward"
    if facts["prompts"]["differing"] < ENOUGH:
        yield f"only {facts['prompts']['differing']:,} prompts have answers with different rewards"


def _but(facts: Mapping[str, Any]) -> str:
    notes = []
    if facts["estimated"]:
        notes.append(f"{facts['estimated']:,} of the log-probs are estimates")
    if facts["cut_support"]:
        notes.append(f"{facts['cut_support']:,} rows were drawn with top_p or top_k, which never try some answers")
    return f" ({'; '.join(notes)})" if notes else ""


def _preferences(facts: Mapping[str, Any]) -> Judgement:
    found = facts["prompts"]["differing"]
    why = f"{found:,} prompts have answers with different rewards, which make pairs"
    return Judgement("preference objectives (DPO and its kin)", found >= ENOUGH, why)


def _successes(facts: Mapping[str, Any]) -> Judgement:
    found = facts["successes"]
    return Judgement(
        "supervised learning on the successes",
        found >= ENOUGH,
        f"{found:,} rows have a reward of at least {facts['success']:g}",
    )
