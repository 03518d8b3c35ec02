"""Held-out accuracy of a model on a recipe's problems, without training; its win rate over a run's first answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from klimb import rollouts
from klimb.errors import DataError, KlimbError
from klimb.evaluation.accuracy import Exam, evaluate
from klimb.evaluation.base import Evaluation
from klimb.evaluation.winrate import WinRate, win_rate
from klimb.examiner import unscored
from klimb.recipe import Recipe
from klimb.rewards.scoring import name_of
from klimb.session import Session, opened, problems_of

if TYPE_CHECKING:
    from klimb.types import Group, Prompt

WITHOUT = "evaluation.win=null, which leaves the win rate out"


def measure(recipe: Recipe, *, step: int = 0, before: Path | None = None) -> Evaluation:
    """Asks the recipe's held-out problems once of its model; `step` seeds the draws as that step of a run does.

    `before` is the file of the answers from before training, which `evaluation.win` needs. Raises KlimbError where it
    is not there, DataError where it answers none of the prompts (or the data cannot be used), RewardError where no
    source says what is correct, ModelError, GenerationError.
    """
    wins = recipe.evaluation.win is not None
    if wins and (before is None or not before.is_file()):
        asked = "set held-out answers against those from before training (evaluation.win)"
        there = "a model, which is no run" if before is None else f"no {before}"
        raise KlimbError(asked, there, f"klimb evaluate RUN, of a run that drew them; or {WITHOUT}")
    if recipe.rewards or not wins:
        _exam(recipe, ())  # says what is missing before anything is loaded
    with opened(recipe, problems_of(recipe), win=True) as session:
        found, groups = _asked(session, step)
        if session.win is None or before is None:
            return found
        rate = WinRate(lambda _: ({}, ()), session.win.score, recipe.evaluation.pairwise, before)
        first = rollouts.read(before)
        won, failed = rate.against(first, groups)
        if not won:
            _check_asked(before, first, groups)
        return replace(found, won=win_rate(won, failed))


def _check_asked(before: Path, first: Sequence[Group], groups: Sequence[Group]) -> None:
    """Raises DataError where none of the prompts is among the first ones, or each has other tokens there."""
    known = {group.prompt.id: group.prompt.tokens for group in first}
    there = [group.prompt for group in groups if group.prompt.id in known]
    if any(known[prompt.id] == prompt.tokens for prompt in there):
        return
    found, cure = f"none of {len(groups)} held-out prompts is there", "that run's own data"
    if there:
        found = f"each of the {len(there)} held-out prompts that are there has other tokens"
        cure = "that run's own chat template, model.system, model.date and source.prompt_tokens"
    raise DataError(f"answers from before training in {before}", found, f"{cure}; or {WITHOUT}")


def _asked(session: Session, step: int) -> tuple[Evaluation, Sequence[Group]]:
    """What one evaluation finds, and its answers; where there are no rewards, their lengths alone."""
    recipe = session.recipe
    if recipe.rewards:
        return evaluate(_exam(recipe, session.asked), session.own, session.score_all, step)
    told, groups = unscored(session, session.asked)(step)
    return Evaluation(step, None, None, told["eval/length"], told["eval/truncated"], 0), groups


def _exam(recipe: Recipe, asked: Sequence[Prompt]) -> Exam:
    sources = {name_of(reward): reward.type for reward in recipe.rewards}
    return Exam(asked, sources, recipe.evaluation, recipe.sampling, recipe.seed)
