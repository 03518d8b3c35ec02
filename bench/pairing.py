"""Held-out answers of runs, prompt by prompt, and the difference of two arms paired by prompt."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies import less, over_prompts

from klimb import rollouts


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


def weights(asked: dict[str, Any]) -> dict[str, float]:
    """The weight of each source of reward that a run with these settings asks, by its name."""
    return {one["name"] or one["type"]: one["weight"] for one in asked["rewards"]}


def answers(run: Path) -> dict[str, Answer]:
    """Prompt -> its answer at the last evaluation of a run, where that could be scored."""
    exam = settings(run)["evaluation"]
    least, by = float(exam["threshold"]), exam["by"]
    found = {}
    for group in rollouts.read(max((run / "evaluations").glob("step-*.parquet"))):
        if (reward := group.rollouts[0].reward) is not None:
            found[group.prompt.id] = Answer(float(reward >= least), reward, str(group.prompt.metadata.get(by, "")))
    return found


def mean(runs: Sequence[Path], of: Of = right, side: str | None = None) -> tuple[float, float, float, int]:
    """The mean over all runs and prompts, or those of a side; its 95 % interval over prompts, and how many answers."""
    each = asked(runs, of, side)
    return *over_prompts(each), sum(map(len, each))


def difference(mine: Sequence[Path], theirs: Sequence[Path], of: Of = right) -> tuple[float, float, float]:
    """How far the first runs are above the second on the same prompts, with its 95 % interval over prompts."""
    found = less(asked(mine, of), asked(theirs, of))
    return found.mean, found.low, found.high


def asked(runs: Sequence[Path], of: Of, side: str | None = None) -> list[dict[str, float]]:
    """Prompt -> the value of its answer, for each run; of one side only where it is named."""
    return [{name: of(one) for name, one in answers(run).items() if side in (None, one.side)} for run in runs]
