"""The decoding experiment of Beyond the 80/20 Rule (2506.01939, section 4): a grid of two temperatures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from klimb.evaluation.accuracy import Exam, evaluate
from klimb.evaluation.base import Evaluation
from klimb.generation.base import Forking, Sampling
from klimb.recipe import Recipe
from klimb.rewards.scoring import name_of
from klimb.session import opened, problems_of

if TYPE_CHECKING:
    from klimb.types import Group


@dataclass(frozen=True, slots=True)
class Grid:
    """The temperatures above and at most at `threshold` nats of the policy's own entropy, at temperature 1."""

    high: Sequence[float]
    low: Sequence[float]
    threshold: float = 0.672

    @property
    def pairs(self) -> list[Forking]:
        """Every pair, by the temperature above and then by the other."""
        return [Forking(threshold=self.threshold, high=high, low=low) for high in self.high for low in self.low]


@dataclass(frozen=True, slots=True)
class Cell:
    """What one pair of temperatures gave. `above`: the share of drawn tokens whose entropy was above the threshold."""

    forking: Forking
    found: Evaluation
    above: float
    entropy: float

    def plain(self) -> dict[str, float]:
        """As values for JSON."""
        pair = {"high": self.forking.high, "low": self.forking.low, "threshold": self.forking.threshold}
        return {**pair, **self.found.metrics(), "above": self.above, "entropy": self.entropy}


def cells(recipe: Recipe, grid: Grid, *, step: int = 0) -> Iterator[Cell]:
    """Asks the recipe's held-out problems once of its model for each pair, by the local sampler.

    A problem's random numbers are the same in each cell. Entropies are in nats a token.
    Raises RewardError where no source says what is correct, DataError, ModelError, GenerationError.
    """
    sources = {name_of(reward): reward.type for reward in recipe.rewards}
    Exam((), sources, recipe.evaluation, recipe.sampling, recipe.seed)  # says what is missing before anything is loaded
    with opened(recipe, problems_of(recipe)) as session:
        exam = Exam(session.asked, sources, recipe.evaluation, recipe.sampling, recipe.seed)
        for forking in grid.pairs:
            drawn_by = Sampling(max_tokens=recipe.sampling.max_tokens, stop=recipe.sampling.stop, forking=forking)
            found, groups = evaluate(exam, session.own, session.score_all, step, drawn_by=drawn_by)
            entropies = _entropies(groups)
            above = fmean(value > forking.threshold for value in entropies)
            yield Cell(forking, found, above, fmean(entropies))


def _entropies(groups: Sequence[Group]) -> list[float]:
    """Of every drawn token; each answer has at least one."""
    return [value for group in groups for one in group.rollouts for value in one.completion.entropies]
