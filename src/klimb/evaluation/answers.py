"""Held-out answers that no reward source is asked about, and what was measured of each answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from klimb.evaluation.base import Evaluate
from klimb.generation.base import Request, Sampler, Sampling
from klimb.seeds import seed_of
from klimb.types import Finish, Group, Label, Prompt, Rollout, Score


@dataclass(frozen=True, slots=True)
class Unscored:
    """Asks the held-out prompts where no reward source scores what is answered. `sampling` is that of training."""

    prompts: Sequence[Prompt]
    settings: Evaluate
    sampling: Sampling
    sampler: Sampler
    seed: int

    def __call__(self, step: int) -> tuple[dict[str, float], Sequence[Group]]:
        """Length and share cut off of the answers after `step`, and the answers. Raises GenerationError."""
        groups = drawn(self.prompts, self.sampler, self.settings.sampling(self.sampling), self.seed, step)
        done = [group.rollouts[0].completion for group in groups]
        cut = fmean(one.finish is Finish.LENGTH for one in done)
        return {"eval/length": fmean(len(one.tokens) for one in done), "eval/truncated": cut}, groups


def drawn(prompts: Sequence[Prompt], sampler: Sampler, asked: Sampling, seed: int, step: int) -> list[Group]:
    """One answer to each prompt; its draw depends on (seed, step, prompt id) alone. Raises GenerationError."""
    seeds = [seed_of("eval", seed, step, prompt.id) for prompt in prompts]
    done = sampler.sample([Request(p.tokens, (one,)) for p, one in zip(prompts, seeds, strict=True)], asked)
    return [
        Group(prompt, (Rollout(row[0], 0, one, label=Label.FRESH),), asked.transform)
        for prompt, row, one in zip(prompts, done, seeds, strict=True)
    ]


def noted(groups: Sequence[Group], name: str, values: Mapping[str, float]) -> list[Group]:
    """The groups, each answer with the value of its prompt's id among its scores, under a metric's name."""
    return [_noted(group, name, values[group.prompt.id]) if group.prompt.id in values else group for group in groups]


def _noted(group: Group, name: str, value: float) -> Group:
    rows = (replace(one, scores={**one.scores, name: Score.of(value)}) for one in group.rollouts)
    return replace(group, rollouts=tuple(rows))
