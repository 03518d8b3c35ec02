"""Held-out accuracy of a model on a recipe's problems, without training."""

from __future__ import annotations

from klimb.evaluation.accuracy import Exam, evaluate
from klimb.evaluation.base import Evaluation
from klimb.recipe import Recipe
from klimb.rewards.scoring import name_of
from klimb.session import opened, problems_of


def measure(recipe: Recipe, *, step: int = 0) -> Evaluation:
    """Asks the recipe's held-out problems once of its model; `step` seeds the draws as that step of a run does.

    Raises RewardError where no source says what is correct, DataError, ModelError, GenerationError.
    """
    sources = {name_of(reward): reward.type for reward in recipe.rewards}
    Exam((), sources, recipe.evaluation, recipe.sampling, recipe.seed)  # says what is missing before anything is loaded
    with opened(recipe, problems_of(recipe)) as session:
        exam = Exam(session.held_out, sources, recipe.evaluation, recipe.sampling, recipe.seed)
        return evaluate(exam, session.own, session.score_all, step)[0]
