"""Held-out accuracy: one completion of each held-out prompt, scored; correctness and format apart, failures apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from klimb import rollouts
from klimb.errors import RewardError
from klimb.evaluation.base import Evaluate, Evaluation, Share
from klimb.evaluation.intervals import normal, paired_bootstrap, wilson
from klimb.generation.base import Request, Sampler, Sampling
from klimb.seeds import seed_of
from klimb.types import Completion, Finish, Group, Prompt, Rollout, Score

ScoreAll = Callable[[Sequence[Prompt], Sequence[Completion]], list[dict[str, Score]]]

VERIFIERS = ("exact", "numeric", "gym", "code")
"""Types of reward sources that say whether an answer is right."""


def correct_source(asked: str, sources: Mapping[str, str]) -> str:
    """The source that says what is correct: the one asked for, else the first verifier. `sources`: name -> type.

    Raises RewardError where there is none.
    """
    if asked in sources:
        return asked
    cure = f"evaluation.correct= one of {', '.join(sources)}"
    if asked:
        raise RewardError(f"evaluation.correct={asked}", "no reward source has that name", cure)
    for name, kind in sources.items():
        if kind in VERIFIERS:
            return name
    raise RewardError("a reward source that says what is correct", "none of type " + ", ".join(VERIFIERS), cure)


@dataclass(frozen=True, slots=True)
class Exam:
    """What is asked at every evaluation of a run: rendered prompts, and the reward sources by name and type.

    `sampling` is that of training; only its length and stops are used. Raises RewardError where no source says what
    is correct.
    """

    prompts: Sequence[Prompt]
    sources: Mapping[str, str]
    settings: Evaluate
    sampling: Sampling
    seed: int
    template: str = ""
    correct: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "correct", correct_source(self.settings.correct, self.sources))


def evaluate(
    exam: Exam, sampler: Sampler, score_all: ScoreAll, step: int, version: str = "", drawn_by: Sampling | None = None
) -> tuple[Evaluation, list[Group]]:
    """Asks each prompt once; returns what was found and the groups for evaluations/step-N.parquet.

    The draw of a prompt depends on (seed, step, prompt id) alone. A group's reward is the score of the source that
    says what is correct, None where that failed. `version` names the policy's weights; `drawn_by` stands in for the
    settings' own way of drawing. Raises GenerationError.
    """
    asked = drawn_by or exam.settings.sampling(exam.sampling)
    prompts, correct = exam.prompts, exam.correct
    seeds = [seed_of("eval", exam.seed, step, prompt.id) for prompt in prompts]
    requests = [Request(prompt.tokens, (one,)) for prompt, one in zip(prompts, seeds, strict=True)]
    done = [completions[0] for completions in sampler.sample(requests, asked)] if requests else []
    scores = score_all(prompts, done) if requests else []
    groups = [
        Group(prompt, (Rollout(one, 0, drawn, named, named[correct].value),), asked.transform, version, exam.template)
        for prompt, one, drawn, named in zip(prompts, done, seeds, scores, strict=True)
    ]
    formats = [name for name, kind in exam.sources.items() if kind == "format"]
    found = summarise(groups, correct, formats, exam.settings.threshold, step)
    scored = None if exam.sources[correct] in VERIFIERS else mean_score(groups)
    return replace(found, sides=sides(groups, exam.settings.by, exam.settings.threshold), score=scored), groups


def summarise(groups: Sequence[Group], correct: str, formats: Sequence[str], threshold: float, step: int) -> Evaluation:
    """What the groups of an evaluation say; in the wanted form is what every source of `formats` scores 1 or more."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    marks = [rollout.scores[correct] for rollout in rollouts]
    right = [_value(score) >= threshold for score in marks if score.counts]
    shaped = [[rollout.scores[name] for name in formats] for rollout in rollouts] if formats else []
    formed = [all(_value(s) >= 1.0 for s in each) for each in shaped if all(s.counts for s in each)]
    return Evaluation(
        step=step,
        accuracy=_share(right),
        format=_share(formed),
        length=fmean(len(r.completion.tokens) for r in rollouts) if rollouts else 0.0,
        truncated=fmean(r.completion.finish is Finish.LENGTH for r in rollouts) if rollouts else 0.0,
        failed=len(marks) - len(right),
    )


def sides(groups: Sequence[Group], column: str, threshold: float = 1.0) -> dict[str, Share]:
    """The accuracy for each value of a column of the data, in the order of their names; empty without a column.

    A letter that no name of a metric has becomes `-`; prompts without the column are in no side.
    """
    found: dict[str, list[bool]] = {}
    for group in groups:
        for rollout in group.rollouts if column and column in group.prompt.metadata else ():
            if rollout.reward is not None:
                side = re.sub(r"[^\w.\-]+", "-", str(group.prompt.metadata[column]))
                found.setdefault(side, []).append(rollout.reward >= threshold)
    return {side: share for side in sorted(found) if (share := _share(found[side]))}


def mean_score(groups: Sequence[Group]) -> Share | None:
    """The mean reward of what could be scored, with its normal 95 % interval; None where nothing could."""
    rewards = [rollout.reward for group in groups for rollout in group.rollouts if rollout.reward is not None]
    if not rewards:
        return None
    return Share(*normal(rewards), len(rewards))


def gain(before: Sequence[Group], after: Sequence[Group], threshold: float = 1.0) -> dict[str, float]:
    """`eval/gain` of one evaluation over another with its 95 % interval (paired bootstrap), on prompts scored in both.

    Empty where there are none.
    """
    first, second = _right(before, threshold), _right(after, threshold)
    shared = [name for name in first if name in second]
    if not shared:
        return {}
    found = paired_bootstrap([first[name] for name in shared], [second[name] for name in shared])
    return {"eval/gain": found.mean, "eval/gain_low": found.low, "eval/gain_high": found.high}


def gain_since(start: Path, groups: Sequence[Group], threshold: float = 1.0) -> dict[str, float]:
    """`gain` over the evaluation saved in a file (that of step 0); empty where it was not made. Raises DataError."""
    return gain(rollouts.read(start), groups, threshold) if start.is_file() else {}


def _right(groups: Sequence[Group], threshold: float) -> dict[str, float]:
    """Prompt id -> 1 or 0, where the answer could be scored."""
    pairs = [(group.prompt.id, rollout.reward) for group in groups for rollout in group.rollouts]
    return {name: float(reward >= threshold) for name, reward in pairs if reward is not None}


def _share(hits: Sequence[bool]) -> Share | None:
    if not hits:
        return None
    return Share(sum(hits) / len(hits), *wilson(sum(hits), len(hits)), len(hits))


def _value(score: Score) -> float:
    assert score.value is not None
    return score.value
