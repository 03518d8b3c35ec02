"""What asks the held-out prompts in a run, and the version of the weights that answers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from klimb import rollouts
from klimb.evaluation.accuracy import Exam, evaluate, gain_since
from klimb.evaluation.answers import Unscored
from klimb.evaluation.winrate import WinRate
from klimb.policy.holding import holding
from klimb.recipe import Recipe
from klimb.rewards.scoring import name_of
from klimb.rundir import RunDir
from klimb.session import Session

if TYPE_CHECKING:
    from torch import Tensor

    from klimb.policy.policy import Policy
    from klimb.training.loop import Evaluate
    from klimb.types import Group, Prompt


def sources_of(recipe: Recipe) -> dict[str, str]:
    """The type of each reward source, by its name."""
    return {name_of(reward): reward.type for reward in recipe.rewards}


def asking(session: Session, version: Version, rundir: RunDir, asked: Sequence[Prompt]) -> Evaluate:
    """What asks the held-out prompts: its answers are scored where there are rewards, and set against the first ones.

    The first ones are those of the evaluation before training.
    """
    recipe = session.recipe
    ask: Evaluate = Examiner(session, version, rundir, asked) if recipe.rewards else unscored(session, asked)
    if session.win is None:
        return ask
    return WinRate(ask, session.win.score, recipe.evaluation.pairwise, rundir.evaluation(0))


def unscored(session: Session, asked: Sequence[Prompt]) -> Unscored:
    """What asks the held-out prompts, and no reward about the answers."""
    recipe = session.recipe
    return Unscored(asked, recipe.evaluation, recipe.sampling, session.own, recipe.seed)


def draw_first(session: Session, rundir: RunDir, initial: Mapping[str, Tensor]) -> None:
    """Writes down the first answers, those of the policy with its `initial` weights; the sampler is stale afterwards.

    Nothing scores them: a fork needs them for the win rate alone. Raises GenerationError.
    """
    with holding(dict(session.policy.named_parameters()), initial):
        session.own.refresh()
        _, groups = unscored(session, session.asked)(0)
    rollouts.write(rundir.evaluation(0), groups, 0)


class Version:
    """The content hash of the policy's weights, computed once for each state of them."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self._known = policy, ""

    def __call__(self) -> str:
        """The version of the weights as they are."""
        self._known = self._known or self._policy.version()
        return self._known

    def moved(self) -> None:
        """The weights have changed."""
        self._known = ""


class Examiner:
    """Asks the held-out problems."""

    def __init__(self, session: Session, version: Version, rundir: RunDir, asked: Sequence[Prompt]) -> None:
        self._session, self._version, self._rundir, recipe = session, version, rundir, session.recipe
        template = session.policy.template()
        self._exam = Exam(asked, sources_of(recipe), recipe.evaluation, recipe.sampling, recipe.seed, template)

    def __call__(self, step: int) -> tuple[dict[str, float], Sequence[Group]]:
        """The metrics and the groups of the evaluation after `step`."""
        session = self._session
        found, groups = evaluate(self._exam, session.own, session.score_all, step, self._version())
        start = self._rundir.evaluation(0)
        gained = gain_since(start, groups, self._exam.settings.threshold) if step else {}
        return found.metrics() | gained, groups
