"""Best-of-n on a recipe's held-out problems: n answers each, and the one that the combined reward likes best.

With `combining.type=selected` a bandit chooses the source for each prompt, as it has learned to in training; it may go
on learning while it chooses (LASeR without fine-tuning, 2410.01735: with `gain.type=negative_loss`, minus the mean
negative log-likelihood of the chosen answers).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from klimb.errors import CheckpointError, KlimbError, SettingsError
from klimb.evaluation.accuracy import Exam
from klimb.evaluation.best_of import Answer, BestOf, curve
from klimb.generation.base import Request
from klimb.recipe import Recipe
from klimb.rewards.combining.base import Combiner, Rewards
from klimb.rewards.scoring import name_of
from klimb.seeds import seed_of
from klimb.session import Session, opened, problems_of
from klimb.types import Completion, Prompt

if TYPE_CHECKING:
    from klimb.policy.base import PolicySettings


def best_of(
    recipe: Recipe,
    n: int,
    *,
    step: int = 0,
    initial: PolicySettings | None = None,
    kept: Path | None = None,
    learn: bool = False,
) -> BestOf:
    """Draws n answers to each held-out problem, of which the first is that of `measure`, and chooses by the reward.

    `initial`: the model that a bandit's contexts are of, by default the recipe's; `kept`: what a checkpoint holds of
    the combining; `learn`: whether it learns from what it chose, each `source.prompts` prompts a step of its own.
    Raises SettingsError, RewardError, CheckpointError, DataError, ModelError, GenerationError.
    """
    from klimb.policy.loading import load

    sources = {name_of(reward): reward.type for reward in recipe.rewards}
    check(recipe, n)
    Exam((), sources, recipe.evaluation, recipe.sampling, recipe.seed)  # says what is missing before anything is loaded
    with opened(recipe, problems_of(recipe)) as session:
        exam = Exam(session.held_out, sources, recipe.evaluation, recipe.sampling, recipe.seed)
        combiner = session.combiner(lambda: load(initial or recipe.model, recipe.seed))
        if kept is not None and combiner.keeper is not None:
            _restore(combiner, kept)
        return _Choosing(session, exam, combiner, n, step).all(learn)


def check(recipe: Recipe, n: int) -> None:
    """Raises SettingsError where there is nothing to choose among, or nothing to choose by."""
    faults = []
    if not recipe.source.scores:
        found = f"source.type={recipe.source.type}, which asks no reward"
        faults.append(KlimbError(f"choose the best of {n} by a reward", found, "a recipe with rewards"))
    if n > 1 and (recipe.evaluation.greedy or recipe.evaluation.temperature == 0):
        faults.append(KlimbError(f"{n} answers to choose among", "evaluation is greedy: all alike", "a temperature"))
    if faults:
        raise SettingsError(faults)


class _Choosing:
    """One pass over the held-out prompts."""

    def __init__(self, session: Session, exam: Exam, combiner: Combiner, n: int, step: int) -> None:
        self.session, self.exam, self.combiner, self.n, self.step = session, exam, combiner, n, step
        self.asked = dict.fromkeys(combiner.needed, 0)

    def all(self, learn: bool) -> BestOf:
        prompts, size, answers = self.exam.prompts, self.session.recipe.source.prompts, list[list[Answer]]()
        for turn, start in enumerate(range(0, len(prompts), size)):
            answers += self._turn(self.step + 1 + turn, prompts[start : start + size], learn)
        rows, left_out = curve(answers, self.exam.settings.threshold)
        weights = self.combiner.opening.weights
        return BestOf(self.n, rows, left_out, self.asked, weights[self.exam.correct] != 0)

    def _turn(self, number: int, prompts: Sequence[Prompt], learn: bool) -> list[list[Answer]]:
        done = self._drawn(prompts)
        wanted = self.combiner.wanted(number, prompts)
        each = [self._needed(None if wanted is None else wanted[place], learn) for place in range(len(prompts))]
        for names in each:
            self.asked |= {name: count + (name in names) for name, count in self.asked.items()}
        flat = [completion for row in done for completion in row]
        asked = [prompt for prompt, row in zip(prompts, done, strict=True) for _ in row]
        names = [one | {self.exam.correct} for one, row in zip(each, done, strict=True) for _ in row]
        answered = iter(self.session.score_all(asked, flat, names))
        scores = [[next(answered) for _ in row] for row in done]
        rewards = self.combiner.rewards(number, prompts, scores)
        if learn:
            self.combiner.observe(number, _nll(done, rewards))
        return [
            [Answer(reward, named[self.exam.correct].value) for reward, named in zip(row, given, strict=True)]
            for row, given in zip(rewards, scores, strict=True)
        ]

    def _needed(self, wanted: frozenset[str] | None, learn: bool) -> frozenset[str]:
        """Which sources are asked about a prompt beside the verdict: those of its reward, and a judge to learn from."""
        needed = frozenset(self.asked)
        return needed if wanted is None else wanted if learn else wanted & needed

    def _drawn(self, prompts: Sequence[Prompt]) -> Sequence[Sequence[Completion]]:
        seed, step = self.exam.seed, self.step
        rows = [
            (seed_of("eval", seed, step, p.id), *(seed_of("eval", seed, step, p.id, k) for k in range(1, self.n)))
            for p in prompts
        ]
        requests = [Request(prompt.tokens, row) for prompt, row in zip(prompts, rows, strict=True)]
        return self.session.own.sample(requests, self.exam.settings.sampling(self.exam.sampling))


def _nll(done: Sequence[Sequence[Completion]], rewards: Rewards) -> float | None:
    """The mean negative log-likelihood a token of the chosen answers, one a prompt; None where none was chosen."""
    found = []
    for row, given in zip(done, rewards, strict=True):
        known = [(reward, -place) for place, reward in enumerate(given) if reward is not None]
        if known and (logps := row[-max(known)[1]].logps):
            found.append(-fmean(logps))
    return fmean(found) if found else None


def _restore(combiner: Combiner, path: Path) -> None:
    """Puts back what a checkpoint holds of the combining. Raises CheckpointError."""
    from safetensors.torch import load_file

    try:
        combiner.keeper.restore(load_file(path))
    except (KeyError, FileNotFoundError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else f"it has no {error}"
        raise CheckpointError(f"the state of the combining in {path}", why, "the settings that the run had") from error
