"""Preference pairs from the data, and fresh samples of the policy for the same prompts (HyPO)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from klimb.generation.base import Request
from klimb.seeds import draw_seed
from klimb.sources.base import Experience, Supplies
from klimb.sources.given import Given, pair_group, turn
from klimb.types import Group, Label, Prompt, Rollout


class Mixture(Given):
    """At every step `prompts` pairs, and `fresh` samples for each of their prompts, drawn from the policy as it is."""

    type: Literal["mixture"] = "mixture"
    gives: ClassVar[frozenset[str]] = frozenset({"pairs", "samples"})
    fresh: Annotated[int, Field(ge=2)] = 2
    """How many samples are drawn for each prompt: each is compared with the others, so two or more."""

    @property
    def completions(self) -> int:
        return self.fresh

    def open(self, supplies: Supplies) -> Experience:
        return MixtureExperience(self, supplies)


class MixtureExperience:
    """The opened source."""

    def __init__(self, settings: Mixture, supplies: Supplies) -> None:
        self._settings, self._supplies = settings, supplies

    def groups(self, step: int) -> list[Group]:
        """The pairs of step `step`, then the samples, which no reward has scored."""
        prompts = turn(self._supplies, step, self._settings.prompts)
        pairs = [pair_group(self._settings, prompt, self._supplies) for prompt in prompts]
        return pairs + self._drawn([pair.prompt for pair in pairs], step)

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
