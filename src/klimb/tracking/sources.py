"""What a run's reward sources said, how they hang together, and what they cost: read from its directory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from klimb import rollouts
from klimb.correlation import within
from klimb.rundir import RunDir
from klimb.tracking.arms import Chosen, chosen
from klimb.tracking.hacking import Course, course, scores_of

FILES = 10
"""The newest steps whose answers the table of correlations is made of."""
PARTS = 10
"""The first and the last of so many parts of the steps are what a source's numbers are compared over."""
COUNTS = ("completions", "failed", "seconds")

Record = Mapping[str, Any]
Ends = tuple[float, float] | None
"""The mean over the first part of the steps and over the last; None where it was never measured."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a source cost, evaluations included: answers asked about, failures, the commonest cause, seconds."""

    answers: int
    failed: int
    cause: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Told:
    """A source: its type, its weight (None where the settings do not say), its scores, and what follows it."""

    name: str
    kind: str
    weight: float | None
    score: Ends
    followed: Ends
    """Rank correlation of the reward with its scores, inside prompts."""
    cost: Cost | None
    course: Course | None
    """How it went beside the reward, where it is not trained on."""


@dataclass(slots=True)
class Sources:
    """All sources; `table` holds the rank correlations of each two over `answers` of the newest steps."""

    rows: list[Told] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    table: list[list[float | None]] = field(default_factory=list)
    answers: int = 0
    arms: list[str] = field(default_factory=list)
    chosen: list[Chosen] = field(default_factory=list)
    """Where a bandit chooses: which of `arms` for which prompts of the newest steps."""


def sources(settings: Record, metrics: Sequence[Record], events: Sequence[Record]) -> Sources:
    """The sources that the settings (leaves by dotted path) name, with what metrics and events say of them."""
    rows, place, costs = [], 0, _costs(events)
    while (kind := settings.get(f"rewards.{place}.type")) is not None:
        name = str(settings.get(f"rewards.{place}.name") or kind)
        weight = settings.get(f"rewards.{place}.weight")
        score = f"reward/{name}"
        steps = sum(line.get(score) is not None and line.get("reward/mean") is not None for line in metrics)
        rows.append(
            Told(
                name,
                str(kind),
                weight if isinstance(weight, (int, float)) else None,
                _ends(metrics, score),
                _ends(metrics, f"hacking/with_{name}"),
                costs.get(name),
                course(metrics, score, "reward/mean", max(1, steps // PARTS)) if weight == 0 else None,
            )
        )
        place += 1
    return Sources(rows)


def correlate(told: Sources, run: RunDir, settings: Record) -> None:
    """Fills in the table, and a bandit's choices, from the rollouts of the newest steps. Raises DataError."""
    groups = [group for path in rollouts.files_of(run.path)[-FILES:] for group in rollouts.read(path)]
    fresh = [group for group in groups if group.age is None]
    scores = scores_of([rollout for group in fresh for rollout in group.rollouts])
    inside = [place for place, group in enumerate(fresh) for _ in group.rollouts]
    told.names = [row.name for row in told.rows if row.name in scores]
    told.table = [[within(scores[a], scores[b], inside) for b in told.names] for a in told.names]
    told.answers = len(inside)
    if str(settings.get("combining.type", "")).startswith("selected"):
        told.arms = [row.name for row in told.rows if row.weight]
        told.chosen = chosen(fresh, told.arms, str(settings.get("evaluation.by") or ""))


def _costs(events: Sequence[Record]) -> dict[str, Cost]:
    """The accounts of every attempt that ended, added up; a killed one left none."""
    found: dict[str, list[Record]] = {}
    for event in events:
        if event.get("kind") == "reward_cost" and all(isinstance(event.get(n), (int, float)) for n in COUNTS):
            found.setdefault(str(event.get("source")), []).append(event)
    return {name: _cost(accounts) for name, accounts in found.items()}


def _cost(accounts: Sequence[Record]) -> Cost:
    causes = Counter[str]()
    for one in accounts:
        causes.update(one["causes"] if isinstance(one.get("causes"), dict) else {})
    first = causes.most_common(1)
    return Cost(
        sum(int(one["completions"]) for one in accounts),
        sum(int(one["failed"]) for one in accounts),
        first[0][0] if first else "",
        sum(float(one["seconds"]) for one in accounts),
    )


def _ends(metrics: Sequence[Record], name: str) -> Ends:
    values = [float(line[name]) for line in metrics if line.get(name) is not None]
    if not values:
        return None
    part = max(1, len(values) // PARTS)
    return fmean(values[:part]), fmean(values[-part:])
