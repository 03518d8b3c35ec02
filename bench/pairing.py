"""Held-out answers of runs, prompt by prompt, and the difference of two arms paired by prompt."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from klimb import rollouts
from klimb.evaluation.intervals import clustered, paired_bootstrap


@dataclass(frozen=True, slots=True)
class Answer:
    """A held-out answer: whether it was right (1 or 0), its score, and its side (`evaluation.by`)."""

    right: float
    score: float
    side: str


Of = Callable[[Answer], float]


def right(answer: Answer) -> float:
    """Whether it was right."""
    return answer.right


def score(answer: Answer) -> float:
    """What the source that says what is correct gave it."""
    return answer.score


def settings(run: Path) -> dict[str, Any]:
    """The settings of a run."""
    found: dict[str, Any] = json.loads((run / "config.json").read_text("utf-8"))["settings"]
    return found


def answers(run: Path) -> dict[str, Answer]:
    """Prompt -> its answer at the last evaluation of a run, where that could be scored."""
    asked = settings(run)["evaluation"]
    least, by = float(asked["threshold"]), asked["by"]
    found = {}
    for group in rollouts.read(max((run / "evaluations").glob("step-*.parquet"))):
        if (reward := group.rollouts[0].reward) is not None:
            found[group.prompt.id] = Answer(float(reward >= least), reward, str(group.prompt.metadata.get(by, "")))
    return found


def by_problem(runs: Sequence[Path], of: Of = right) -> dict[str, float]:
    """Prompt -> the mean over the runs, of prompts that all of them were scored on."""
    found = [answers(run) for run in runs]
    return {name: fmean(of(one[name]) for one in found) for name in found[0] if all(name in one for one in found)}


def mean(runs: Sequence[Path], of: Of = right, side: str | None = None) -> tuple[float, float, float, int]:
    """The mean over all runs and prompts, or those of a side; its 95 % interval over prompts, and how many answers."""
    each = [(of(one), name) for run in runs for name, one in answers(run).items() if side in (None, one.side)]
    return *clustered([value for value, _ in each], [name for _, name in each]), len(each)


def difference(mine: Sequence[Path], theirs: Sequence[Path], of: Of = right) -> tuple[float, float, float]:
    """How far the first runs are above the second on the same prompts, with its 95 % interval over prompts."""
    one, other = by_problem(mine, of), by_problem(theirs, of)
    shared = [name for name in one if name in other]
    found = paired_bootstrap([other[name] for name in shared], [one[name] for name in shared])
    return found.mean, found.low, found.high
