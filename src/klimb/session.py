"""Opens what a recipe names: the data, the policy, the sampler, the rewards. Everything is closed at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from klimb.data.base import Problems
from klimb.errors import DataError
from klimb.generation.base import Sampler
from klimb.recipe import Recipe
from klimb.rewards.scoring import open_all
from klimb.sources.base import ScoreAll
from klimb.types import Prompt

if TYPE_CHECKING:
    from klimb.policy.policy import Policy


@dataclass(frozen=True, slots=True)
class Session:
    """What a recipe names, opened."""

    recipe: Recipe
    problems: Problems
    policy: Policy
    sampler: Sampler
    score_all: ScoreAll

    @property
    def held_out(self) -> Sequence[Prompt]:
        """The rendered held-out prompts that evaluations ask: the first ones, always the same."""
        asked = self.problems.held_out[: self.recipe.evaluation.problems]
        return [self.policy.render(prompt, self.recipe.sampling.max_tokens) for prompt in asked]


def problems_of(recipe: Recipe) -> Problems:
    """The recipe's prompts. Raises DataError, also where there is nothing to train on."""
    problems = recipe.data.open()
    if not len(problems.train):
        raise DataError("train on at least one prompt", "the training split is empty", "check data and its split")
    return problems


@contextmanager
def opened(recipe: Recipe, problems: Problems, policy: Policy | None = None) -> Iterator[Session]:
    """A session on the recipe's model, or on a policy that is there already."""
    with ExitStack() as stack:
        score_all = stack.enter_context(open_all(recipe.rewards))
        if policy is None:
            from klimb.policy.loading import load  # torch, only once settings and data are known to be good

            policy = load(recipe.model, recipe.seed)
        opening: AbstractContextManager[Sampler] = recipe.generator.open(policy)
        yield Session(recipe, problems, policy, stack.enter_context(opening), score_all)
