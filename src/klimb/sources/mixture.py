"""Preference pairs from the data, and fresh samples of the policy for their prompts or for others (HyPO)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from klimb.errors import KlimbError
from klimb.generation.base import Request
from klimb.seeds import draw_seed, seed_of
from klimb.sources.base import Experience, Supplies
from klimb.sources.given import Given, pair_group, turn, visited
from klimb.sources.unlabelled import Unlabelled
from klimb.types import Group, Label, Prompt, Rollout


class Mixture(Given):
    """At every step `prompts` pairs, and `fresh` samples for each of their prompts, drawn from the policy as it is.

    With a file of `unlabelled` prompts also, or only, for some of those. All samples weigh the same.
    """

    type: Literal["mixture"] = "mixture"
    gives: ClassVar[frozenset[str]] = frozenset({"pairs", "samples"})
    draws: ClassVar[bool] = True
    fresh: Annotated[int, Field(ge=2)] = 2
    """How many samples are drawn for each prompt: each is compared with the others, so two or more."""
    unlabelled: Unlabelled | None = None
    """Further prompts, which have no answers; null = only those of the pairs."""

    @property
    def completions(self) -> int:
        return self.fresh

    @property
    def further(self) -> int:
        """How many unlabelled prompts each step asks."""
        return 0 if self.unlabelled is None else self.unlabelled.prompts or self.prompts

    @property
    def own(self) -> bool:
        """Whether the prompts of the pairs are asked, too."""
        return self.unlabelled is None or not self.unlabelled.alone

    def sampled(self, step: int) -> int:
        return self.further + self.prompts * self.own

    def faults(self) -> list[KlimbError]:
        """A minibatch is cut by prompts, and one of unlabelled prompts alone would have no pair to learn from."""
        if self.unlabelled is None or self.minibatches == 1:
            return []
        asked = f"cut each batch into {self.minibatches} minibatches by prompts (source.minibatches)"
        found = "source.unlabelled, whose prompts have no pairs: a minibatch may then be without any"
        return [KlimbError(asked, found, "source.minibatches=1, or source.unlabelled=null")]

    def open(self, supplies: Supplies) -> Experience:
        return MixtureExperience(self, supplies)


class MixtureExperience:
    """The opened source."""

    def __init__(self, settings: Mixture, supplies: Supplies) -> None:
        self._settings, self._supplies = settings, supplies

    def groups(self, step: int) -> list[Group]:
        """The pairs of step `step`, then the samples, unscored: for their prompts, then for others."""
        settings, supplies = self._settings, self._supplies
        pairs = [pair_group(settings, prompt, supplies) for prompt in turn(supplies, step, settings.prompts)]
        others = visited(supplies.unlabelled, seed_of("unlabelled", supplies.seed), step, settings.further)
        own = [pair.prompt for pair in pairs] if settings.own else []
        return pairs + self._drawn([*own, *map(settings.ask, others)], step)

    def metrics(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def _drawn(self, prompts: list[Prompt], step: int) -> list[Group]:
        s, count = self._supplies, self._settings.fresh
        seeds = [
            tuple(draw_seed(s.seed, step, f"fresh-{place}-{prompt.id}", k) for k in range(count))
            for place, prompt in enumerate(prompts)
        ]
        with s.stage("sample"):
            requests = [Request(prompt.tokens, row) for prompt, row in zip(prompts, seeds, strict=True)]
            done = s.sampler.sample(requests, s.sampling)
        version, transform = s.version(), s.sampling.transform
        return [
            Group(
                prompt,
                tuple(
                    Rollout(one, k, seed, label=Label.FRESH) for k, (one, seed) in enumerate(zip(row, own, strict=True))
                ),
                transform,
                version,
                s.template,
            )
            for prompt, row, own in zip(prompts, done, seeds, strict=True)
        ]
