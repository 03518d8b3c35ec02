"""Opens what a recipe names: the data, the policy, the sampler, the rewards. Everything is closed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from klimb.data.base import Problems
from klimb.errors import DataError
from klimb.generation.base import Sampler
from klimb.generation.local import Local
from klimb.recipe import Recipe
from klimb.rendering import rendered
from klimb.rewards.combining.base import Combiner, Opening
from klimb.rewards.scoring import Source, name_of, open_all
from klimb.sources.base import ScoreAll
from klimb.sources.hybrid import Hybrid
from klimb.sources.mixture import Mixture
from klimb.sources.replayed import Replayed
from klimb.types import Prompt

if TYPE_CHECKING:
    from klimb.policy.policy import Policy
    from klimb.policy.value_model import ValueModel


WIN = "evaluation.win"


@dataclass(frozen=True, slots=True)
class Session:
    """What a recipe names, opened."""

    recipe: Recipe
    problems: Problems
    train: Sequence[Prompt]
    """The training prompts, rendered."""
    policy: Policy
    sampler: Sampler
    """What draws in training."""
    own: Sampler
    """What the policy itself draws with: evaluations measure the policy, whatever training samples from."""
    score_all: ScoreAll
    unlabelled: Sequence[Prompt] = ()
    """The prompts without answers, rendered."""
    value_model: ValueModel | None = None
    """The critic, where it has a model of its own."""
    win: Source | None = None
    """What says whether held-out answers are better than those from before training, where a run asks that."""
    asked: Sequence[Prompt] = ()
    """The held-out prompts that evaluations ask, rendered: the first ones, always the same."""

    def combiner(self, initial: Callable[[], Any]) -> Combiner:
        """What makes one reward of several scores; `initial` opens the policy of its contexts when it is needed."""
        from klimb.training.states import PromptStates

        recipe = self.recipe
        tokens = recipe.training.micro_tokens
        return recipe.combining.open(
            Opening(
                {name_of(reward): reward.weight for reward in recipe.rewards},
                recipe.seed,
                initial=PromptStates(initial, tokens, stays=True),
                current=PromptStates(lambda: self.policy, tokens),
            )
        )

    @property
    def costs(self) -> Mapping[str, Mapping[str, Any]]:
        """What each source of reward has cost, and what says who wins, under the name of its setting."""
        found = dict(getattr(self.score_all, "costs", {}))
        return found if self.win is None else found | {WIN: self.win.account}


def _load(recipe: Recipe) -> Policy:
    from klimb.policy.loading import load  # torch, only once settings and data are known to be good
    from klimb.policy.recomputing import recompute_beyond

    policy = load(recipe.model, recipe.seed, recipe.source.speaks(recipe.objective.reads_logp))
    recompute_beyond(policy.model, recipe.training.micro_tokens)
    return policy


def problems_of(recipe: Recipe) -> Problems:
    """The recipe's prompts. Raises DataError, also where there is nothing to train on."""
    problems = recipe.data.open()
    if not len(problems.train):
        raise DataError("train on at least one prompt", "the training split is empty", "check data and its split")
    if not isinstance(recipe.source, Mixture) or recipe.source.unlabelled is None:
        return problems
    return replace(problems, unlabelled=recipe.source.unlabelled.read(recipe.data, problems))


def check_logs(recipe: Recipe) -> str:
    """What the logs give that a recipe learns from; empty where it reads none. Raises DataError where unfit."""
    if not isinstance(recipe.source, Replayed | Hybrid):
        return ""
    log = recipe.source.read(recipe.demands, recipe.training.steps)
    return log.describe() if log.groups else ""


@contextmanager
def opened(
    recipe: Recipe, problems: Problems, policy: Policy | None = None, *, win: bool = False, learns: bool = False
) -> Iterator[Session]:
    """A session on the recipe's model, or on a policy that is there already; where `win`, with what says who wins.

    Only where it `learns` have prompts that are not held out token ids.
    """
    with ExitStack() as stack:
        judge = stack.enter_context(recipe.evaluation.judge()) if win and recipe.evaluation.win else None
        wins = None if judge is None else Source(WIN, judge, counts=False, limit=1.0, window=1)
        score_all = stack.enter_context(open_all(recipe.rewards))
        loaded = policy or _load(recipe)
        opening: AbstractContextManager[Sampler] = recipe.generator.open(loaded)
        sampler = stack.enter_context(opening)
        own = sampler if isinstance(recipe.generator, Local) else stack.enter_context(Local().open(loaded))
        ready, opens = rendered(recipe, problems, loaded, learns), (loaded, sampler, own, score_all)
        yield Session(recipe, problems, ready.train, *opens, ready.unlabelled, win=wins, asked=ready.asked)
