"""Best-of-n on a recipe's held-out problems: n answers each, and the one that the combined reward likes best.

With `combining.type=selected` a bandit chooses the source for each prompt, as it has learned to in training; it may go
on learning while it chooses (LASeR without fine-tuning, 2410.01735: with `gain.type=negative_loss`, minus the mean
negative log-likelihood of the chosen answers).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from klimb.data.base import Problems
from klimb.errors import CheckpointError, KlimbError, RewardError, SettingsError
from klimb.evaluation.accuracy import Exam
from klimb.evaluation.best_of import Answer, BestOf, curve
from klimb.generation.base import Request, Sampling
from klimb.generation.local import Local
from klimb.recipe import Recipe
from klimb.rewards.combining.base import Combiner, Rewards
from klimb.rewards.scoring import name_of, open_all
from klimb.seeds import draw_seed, seed_of
from klimb.session import Session, opened, problems_of
from klimb.sources.base import ScoreAll
from klimb.types import Completion, Prompt, Score

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
    sources = {name_of(reward): reward.type for reward in recipe.rewards}
    asked = recipe.evaluation
    check(recipe, n, 0.0 if asked.greedy else asked.temperature)
    Exam((), sources, recipe.evaluation, recipe.sampling, recipe.seed)  # says what is missing before anything is loaded
    with opened(recipe, problems_of(recipe)) as session:
        exam = Exam(session.asked, sources, recipe.evaluation, recipe.sampling, recipe.seed)
        return _Choosing(session, exam, _combiner(session, initial, kept), n, step).all(learn)


@contextmanager
def picking(
    recipe: Recipe, n: int, drawn: Sampling, seed: int, *, step: int, initial: PolicySettings, kept: Path | None = None
) -> Iterator[Callable[[Prompt, int], str]]:
    """A function that answers the prompt of turn k with the best of n answers, by the recipe's combined reward.

    It raises RewardError where no answer gets a reward: a source that compares with a known answer cannot score. The
    first of the n has the seed of turn k alone, and weights that change are those of `step`. Raises RewardError,
    CheckpointError, ModelError.
    """
    from klimb.policy.loading import load

    with ExitStack() as stack:
        score_all = stack.enter_context(open_all(recipe.rewards))
        policy = load(recipe.model, recipe.seed)
        sampler = stack.enter_context(Local(rows=n).open(policy))
        session = Session(recipe, Problems((), ()), (), policy, sampler, sampler, score_all)
        combiner = _combiner(session, initial, kept)
        needed = frozenset(combiner.needed)

        def pick(prompt: Prompt, turn: int) -> str:
            asked = policy.render(prompt)
            seeds = tuple(draw_seed(seed, turn, prompt.id, k) for k in range(n))
            done = sampler.sample([Request(asked.tokens, seeds)], drawn)
            wanted = combiner.wanted(turn + 1, [asked])
            scores = _scores(score_all, [asked], done, [needed if wanted is None else wanted[0] & needed])
            best = _best(combiner.rewards(max(step, 1), [asked], scores)[0])
            if best is None:
                raise _no_reward(n, scores[0])
            return done[0][best].text

        yield pick


def check(recipe: Recipe, n: int, temperature: float) -> None:
    """Raises SettingsError where there is nothing to choose among, or nothing to choose by."""
    faults = []
    if not recipe.needs_rewards:
        found = f"source.type={recipe.source.type}, which asks no reward"
        faults.append(KlimbError(f"choose the best of {n} by a reward", found, "a recipe with rewards"))
    if n > 1 and temperature == 0:
        faults.append(
            KlimbError(f"{n} answers to choose among", "temperature 0: all are alike", "a temperature above 0")
        )
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
        needed = frozenset(self.asked)
        each = [needed] * len(prompts) if wanted is None else [one if learn else one & needed for one in wanted]
        for names in each:
            self.asked |= {name: count + (name in names) for name, count in self.asked.items()}
        scores = _scores(self.session.score_all, prompts, done, [names | {self.exam.correct} for names in each])
        rewards = self.combiner.rewards(number if learn else max(self.step, 1), prompts, scores)
        if learn:
            self.combiner.observe(number, chosen_nll(done, rewards))
        return [
            [Answer(reward, named[self.exam.correct].value) for reward, named in zip(row, given, strict=True)]
            for row, given in zip(rewards, scores, strict=True)
        ]

    def _drawn(self, prompts: Sequence[Prompt]) -> Sequence[Sequence[Completion]]:
        seed, step = self.exam.seed, self.step
        rows = [
            (seed_of("eval", seed, step, p.id), *(seed_of("eval", seed, step, p.id, k) for k in range(1, self.n)))
            for p in prompts
        ]
        requests = [Request(prompt.tokens, row) for prompt, row in zip(prompts, rows, strict=True)]
        return self.session.own.sample(requests, self.exam.settings.sampling(self.exam.sampling))


def _scores(
    score_all: ScoreAll,
    prompts: Sequence[Prompt],
    done: Sequence[Sequence[Completion]],
    names: Sequence[frozenset[str]],
) -> list[list[dict[str, Score]]]:
    """The scores of each prompt's answers by the sources that are named for it."""
    flat = [completion for row in done for completion in row]
    asked = [prompt for prompt, row in zip(prompts, done, strict=True) for _ in row]
    answered = iter(score_all(asked, flat, [one for one, row in zip(names, done, strict=True) for _ in row]))
    return [[next(answered) for _ in row] for row in done]


def _best(rewards: Sequence[float | None]) -> int | None:
    """The place of the highest reward, the first of equal ones; None where there is none."""
    known = [(reward, -place) for place, reward in enumerate(rewards) if reward is not None]
    return -max(known)[1] if known else None


def _no_reward(n: int, scores: Sequence[Mapping[str, Score]]) -> RewardError:
    failed = Counter(
        f"{name}: {s.outcome} {s.reason}".strip() for row in scores for name, s in row.items() if not s.counts
    )
    cause = failed.most_common(1)[0][0] if failed else "no source was asked"
    return RewardError(
        f"one reward at least among {n} answers", cause, "rewards that need no known answer, or leave --best-of out"
    )


def chosen_nll(done: Sequence[Sequence[Completion]], rewards: Rewards) -> float | None:
    """The mean negative log-likelihood a token of the chosen answers, one a prompt; None where none was chosen."""
    found = []
    for row, given in zip(done, rewards, strict=True):
        best = _best(given)
        if best is not None and (logps := row[best].logps):
            found.append(-fmean(logps))
    return fmean(found) if found else None


def _combiner(session: Session, initial: PolicySettings | None, kept: Path | None) -> Combiner:
    """What makes the reward, with what a checkpoint holds of it put back. Raises CheckpointError."""
    from safetensors.torch import load_file

    from klimb.policy.loading import load

    recipe = session.recipe
    combiner = session.combiner(lambda: load(initial or recipe.model, recipe.seed))
    if kept is None or combiner.keeper is None:
        return combiner
    try:
        combiner.keeper.restore(load_file(kept))
    except (KeyError, FileNotFoundError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else f"it has no {error}"
        raise CheckpointError(f"the state of the combining in {kept}", why, "the settings that the run had") from error
    return combiner
