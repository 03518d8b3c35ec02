"""On-policy experience: prompts from the data, completions from the policy, scores from the rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from klimb.errors import KlimbError
from klimb.generation.base import Request
from klimb.rewards.combining.base import Opening
from klimb.rewards.combining.weighted import Weighted
from klimb.seeds import draw_seed, permutation
from klimb.sources.base import Experience, Source, Supplies, tokens_of
from klimb.types import Group, Prompt, Rollout, Score


class Online(Source):
    """Samples `completions` answers to each of `prompts` prompts at every step."""

    type: Literal["online"] = "online"
    gives: ClassVar[frozenset[str]] = frozenset({"groups"})
    draws: ClassVar[bool] = True
    prompts: Annotated[int, Field(ge=1)] = 8
    """How many prompts each step asks."""
    completions: Annotated[int, Field(ge=1)] = 8
    """How many completions are drawn of each prompt (the group size G)."""
    epochs: Annotated[int, Field(ge=1)] = 1
    """How many times each batch is learned from."""
    minibatches: Annotated[int, Field(ge=1)] = 1
    """Into how many optimizer steps each pass over a batch is cut, by prompts."""

    dynamic: Annotated[int, Field(ge=0)] = 0
    """Dynamic sampling (DAPO, 2503.14476, Eq. 11): groups whose rewards are all equal are left out, and other prompts
    are asked in their place, for at most so many further rounds; 0 = every group is kept."""

    def faults(self) -> list[KlimbError]:
        """One completion is a group without a signal: all would be thrown away."""
        if not self.dynamic or self.completions > 1:
            return []
        found = "completions=1, whose rewards are always all equal"
        return [KlimbError(f"keep the groups with a signal (dynamic={self.dynamic})", found, "completions=2 or more")]

    def open(self, supplies: Supplies) -> Experience:
        return OnlineExperience(self, supplies)


class OnlineExperience:
    """The opened source."""

    def __init__(self, settings: Online, supplies: Supplies) -> None:
        self.settings, self.supplies = settings, supplies
        self._combiner = supplies.combiner or Weighted().open(Opening(supplies.weights, supplies.seed))
        self._told: dict[str, float] = {}
        self.discarded: Sequence[Group] = ()
        """What the last step drew and nobody learns from."""

    def groups(self, step: int) -> list[Group]:
        """Samples and scores the groups of step `step` (from 1).

        With dynamic sampling, those with a signal: fewer than `prompts` where the rounds did not find enough, and those
        of the first round as they are where none has one, so that the step is counted and teaches nothing.
        """
        prompts = [self.supplies.prompts[index] for index in self.indices(step)]
        seeds = seeds_of(self.supplies.seed, step, prompts, self.settings.completions)
        wanted = self.settings.prompts
        first = self.drawn(step, prompts[:wanted], seeds[:wanted])
        if not self.settings.dynamic:
            return first
        every, drawn = list(first), wanted
        kept = [group for group in first if not group.degenerate]
        for _ in range(self.settings.dynamic):
            if not (missing := wanted - len(kept)):
                break
            chosen = slice(drawn, drawn + missing)
            found = self.drawn(step, prompts[chosen], seeds[chosen], drawn)
            every += found
            kept += [group for group in found if not group.degenerate]
            drawn += missing
        self.discarded = [group for group in every if group.degenerate] if kept else every[wanted:]
        self._told = {
            "group/drawn": float(drawn),
            "group/degenerate": 1 - len(kept) / drawn,
            "group/discarded": float(len(self.discarded)),
            "tokens/discarded": float(tokens_of(self.discarded)),
        }
        return kept or first

    def metrics(self) -> dict[str, float]:
        """With dynamic sampling: how many prompts the last step asked, how many had no signal, what was left out."""
        return self._told

    def drawn(
        self, step: int, prompts: Sequence[Prompt], seeds: Sequence[tuple[int, ...]], first: int = 0
    ) -> list[Group]:
        """A group for each prompt: sampled and scored. `first`: how many prompts this step has asked before."""
        return self.score(step, self.ask(prompts, seeds), first)

    def ask(self, prompts: Sequence[Prompt], seeds: Sequence[tuple[int, ...]]) -> list[Group]:
        """A group for each prompt, which nothing has scored."""
        s = self.supplies
        with s.stage("sample"):
            requests = [Request(prompt.tokens, row) for prompt, row in zip(prompts, seeds, strict=True)]
            done = s.sampler.sample(requests, s.sampling)
        version, transform = s.version(), s.sampling.transform
        return [
            Group(prompt, tuple(map(Rollout, row, range(len(row)), own)), transform, version, s.template)
            for prompt, row, own in zip(prompts, done, seeds, strict=True)
        ]

    def score(self, step: int, groups: Sequence[Group], first: int = 0) -> list[Group]:
        """The groups with the scores and rewards that they get in step `step`, whatever they had before."""
        s, prompts = self.supplies, [group.prompt for group in groups]
        with s.stage("score"):
            flat = [(place, rollout.completion) for place, group in enumerate(groups) for rollout in group.rollouts]
            wanted = self._combiner.wanted(step, prompts, first)
            each = () if wanted is None else ([wanted[place] for place, _ in flat],)
            answers = iter(s.score_all([prompts[place] for place, _ in flat], [one for _, one in flat], *each))
            scores = [[next(answers) for _ in group.rollouts] for group in groups]
            rewards = self._combiner.rewards(step, prompts, scores, first)
        return [_scored(*found) for found in zip(groups, scores, rewards, strict=True)]

    def indices(self, step: int) -> list[int]:
        """Which prompts step `step` may ask: each pass over the data visits every prompt once, in a seeded order.

        A step has its own stretch of that order, as long as its rounds may need; what it does not need is passed over.
        """
        count = len(self.supplies.prompts)
        length = self.settings.prompts * (1 + self.settings.dynamic)
        visits = range((step - 1) * length, step * length)
        orders = {epoch: permutation(self.supplies.seed, epoch, count) for epoch in {v // count for v in visits}}
        return [int(orders[visit // count][visit % count]) for visit in visits]


def seeds_of(seed: int, step: int, prompts: Sequence[Prompt], count: int) -> list[tuple[int, ...]]:
    """The seeds of each prompt's completions; a prompt that is asked again in one step gets other ones."""
    seen: dict[str, int] = {}
    rows = []
    for prompt in prompts:
        start = seen.get(prompt.id, 0)
        seen[prompt.id] = start + count
        rows.append(tuple(draw_seed(seed, step, prompt.id, k) for k in range(start, start + count)))
    return rows


def _scored(group: Group, scores: Sequence[dict[str, Score]], rewards: Sequence[float | None]) -> Group:
    rows = zip(group.rollouts, scores, rewards, strict=True)
    return replace(group, rollouts=tuple(replace(one, scores=named, reward=reward) for one, named, reward in rows))
