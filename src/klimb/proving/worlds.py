"""A world: three policies, a reward for every answer, and every batch that can be drawn, each with its probability."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations_with_replacement, product

import torch

from klimb.batch import Batch
from klimb.objectives.carried import BASELINE
from klimb.proving.policy import Answers, Enumerable, Parameters, Tokens

EARLIER = 0.3
"""The mean reward of earlier steps, which a moving baseline takes off."""
Drawn = tuple[tuple[int, int], ...]
"""The rows of one batch: which prompt, which answer."""


@dataclass(frozen=True, eq=False)
class World:
    """Where an objective is proved. `theta` is the current policy, `old` the one that sampled, `ref` the initial one.

    Answers are drawn from `old`, or from `sampler` where it is another: one that never says some words, for instance.
    A batch has `group` answers to each prompt. With `given` advantages a batch is a single answer, and its advantage
    is its reward: the surrogate alone, without the baseline.
    """

    name: str
    policy: Enumerable
    theta: Parameters
    old: Parameters
    ref: Parameters
    reward: Answers
    group: int = 3
    given: bool = False
    sampler: Parameters | None = None

    @property
    def off_policy(self) -> bool:
        """Whether the current policy has moved away from the one that sampled."""
        return not torch.equal(self.theta, self.old)

    @property
    def longest(self) -> int:
        """The length of the longest answer."""
        return int(self.policy.lengths.max())

    @cached_property
    def old_logp(self) -> Tokens:
        """log old of each token."""
        return self.policy.logp(self.old)

    @cached_property
    def likely(self) -> Answers:
        """How likely each answer is to be drawn."""
        sampler = self.old_logp if self.sampler is None else self.policy.logp(self.sampler)
        return self.policy.whole(sampler).exp()

    @cached_property
    def ref_logp(self) -> Tokens:
        """log ref of each token."""
        return self.policy.logp(self.ref)

    @cached_property
    def value(self) -> Tokens:
        """What some critic, a wrong one, thinks before each token: a function of prompt and prefix."""
        draw = torch.Generator().manual_seed(5)
        shape = (self.policy.prompts, self.policy.prefixes)
        return torch.randn(shape, generator=draw, dtype=torch.float64)[:, self.policy.at]

    @cached_property
    def outcomes(self) -> tuple[tuple[float, Drawn], ...]:
        """Every batch that can be drawn, up to the order of a group's answers, with its probability."""
        return tuple(self._draws())

    @cached_property
    def batches(self) -> tuple[tuple[float, Batch], ...]:
        """The same, each as a batch whose advantages and weights are not made yet."""
        return tuple((probability, self.batch(drawn)) for probability, drawn in self.outcomes)

    def _draws(self) -> Iterator[tuple[float, Drawn]]:
        likely = self.likely.tolist()
        answers = range(len(self.policy.answers))
        if self.given:
            for prompt, answer in product(range(self.policy.prompts), answers):
                yield likely[prompt][answer] / self.policy.prompts, ((prompt, answer),)
            return
        groups = list(combinations_with_replacement(answers, self.group))
        for chosen in product(groups, repeat=self.policy.prompts):
            probability = 1.0
            for prompt, group in enumerate(chosen):
                orders = math.factorial(self.group)
                for count in Counter(group).values():
                    orders //= math.factorial(count)
                probability *= orders * math.prod(likely[prompt][answer] for answer in group)
            yield probability, tuple((prompt, answer) for prompt, group in enumerate(chosen) for answer in group)

    def batch(self, drawn: Drawn) -> Batch:
        """These rows as a batch in float64."""
        places = [self.policy.places(answer) for _, answer in drawn]
        at = torch.cat(places)
        lengths = torch.tensor([len(place) for place in places])
        row = torch.repeat_interleave(torch.arange(len(drawn)), lengths)
        prompt = torch.tensor([index for index, _ in drawn])
        answer = torch.tensor([index for _, index in drawn])
        group = torch.unique(prompt, return_inverse=True)[1]
        everyone = torch.ones(len(drawn), dtype=torch.bool)
        return Batch(
            tokens=self.policy.word[at],
            row=row,
            group=group,
            prompts=(torch.zeros(1, dtype=torch.int64),) * (int(group.max()) + 1),
            learn=everyone[row],
            reward=self.reward[prompt, answer],
            scored=everyone,
            truncated=~everyone,
            old=self.old_logp[prompt[row], at],
            ref=self.ref_logp[prompt[row], at],
            value=self.value[prompt[row], at],
            carried={BASELINE: EARLIER},
        )

    def places(self, drawn: Drawn) -> torch.Tensor:
        """Where each token of these rows stands among all tokens of all prompts, flattened."""
        tokens = len(self.policy.row)
        return torch.cat([prompt * tokens + self.policy.places(answer) for prompt, answer in drawn])


def world(name: str, policy: Enumerable, drift: float, *, given: bool = False, group: int = 3) -> World:
    """A world with random parameters; `drift` is how far the current policy is from the one that sampled."""
    theta = policy.draw(1)
    draw = torch.Generator().manual_seed(4)
    reward = torch.randn(policy.prompts, len(policy.answers), generator=draw, dtype=torch.float64)
    old = theta if drift == 0 else theta + policy.draw(2, drift)
    return World(name, policy, theta, old, policy.draw(3), reward, group, given)


def truncated(world: World, top_p: float) -> World:
    """The same world, its answers drawn from the likeliest words that together have `top_p` of the probability."""
    likely, words = world.old.softmax(-1).sort(-1, descending=True)
    cut = torch.zeros_like(likely, dtype=torch.bool).scatter(-1, words, likely.cumsum(-1) - likely >= top_p)
    return replace(world, sampler=world.old.masked_fill(cut, -torch.inf))
