"""Iterative preference training: rounds of samples of the policy as it was at the round's start, scored and paired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from klimb.errors import KlimbError
from klimb.generation.base import Sampling
from klimb.seeds import seed_of
from klimb.sources.base import Experience, Supplies, tokens_of
from klimb.sources.online import Online, OnlineExperience, seeds_of
from klimb.sources.online_pairs import OnlinePairs, counted, paired
from klimb.sources.rounds import Place, Round
from klimb.sources.weighed import weighed
from klimb.types import Group, Prompt


class IterativePairs(OnlinePairs):
    """Iterative DPO: at the start of a round the policy answers all its prompts, then their pairs are learned from.

    A round has `batches` batches of `prompts` prompts and takes `batches` x `passes` steps, a batch each. A batch is
    scored and paired at the step that first learns from it, so that a bandit over the rewards chooses for each batch
    and learns from its loss (LASeR, 2410.01735); later passes learn from the same pairs.
    """

    type: Literal["iterative_pairs"] = "iterative_pairs"  # type: ignore[assignment]
    weighs: ClassVar[bool] = False
    batches: Annotated[int, Field(ge=1)] = 8
    """How many batches a round has: `batches` x `prompts` prompts are sampled at its start."""
    passes: Annotated[int, Field(ge=1)] = 1
    """How many times a round's pairs are gone through, batch by batch in the same order."""
    reference: Literal["initial", "round"] = "initial"
    """What the objective compares with: the initial policy, or the policy at the round's start."""

    @property
    def length(self) -> int:
        """How many steps a round takes."""
        return self.batches * self.passes

    @property
    def renews(self) -> bool:
        return self.reference == "round"

    def sampled(self, step: int) -> int:
        return self.batches * self.prompts if (step - 1) % self.length == 0 else 0

    def faults(self) -> list[KlimbError]:
        """A round's prompts are all asked at its start."""
        if not self.dynamic:
            return super().faults()
        found = "source.type=iterative_pairs, which samples before it scores"
        return [
            KlimbError(f"ask other prompts for those without a signal (dynamic={self.dynamic})", found, "dynamic=0")
        ]

    def conflicts(self, corrected: bool, sampling: Sampling, refers: bool) -> Iterator[KlimbError]:
        if corrected:
            yield weighed("source.type=iterative_pairs, which learns from its samples as pairs, whatever drew them")
        if self.renews and not refers:
            yield KlimbError(
                "compare with the policy at a round's start (source.reference=round)",
                "an objective without a reference",
                "source.reference=initial, or an objective with one, such as dpo",
            )

    def open(self, supplies: Supplies) -> Experience:
        return IterativePairsExperience(self, supplies)


class IterativePairsExperience:
    """The opened source. `keeper` is what a checkpoint holds of it."""

    def __init__(self, settings: IterativePairs, supplies: Supplies) -> None:
        self._settings, self._supplies = settings, supplies
        whole = Online(prompts=settings.batches * settings.prompts, completions=settings.completions)
        self._inner = OnlineExperience(whole, supplies)
        self.keeper = Round(settings.prompts)
        self.scored: Sequence[Group] = ()
        """The groups that the last step scored: none where their scores were there."""
        self._told: dict[str, float] = {}

    def groups(self, step: int) -> list[Group]:
        """The pairs of step `step`; where it is the first of a round, or no round is there yet, all are sampled."""
        place = Place.of(step, self._settings.batches, self._settings.passes)
        prompts = [self._supplies.prompts[index] for index in self._inner.indices(place.round + 1)]
        if not self.keeper.holds(place.round, len(prompts)):
            self._begin(step, place, prompts)
        found = self.keeper.batch(place.batch, prompts)
        new = not self.keeper.scored_before(place.batch, step)
        if new:
            found = self._inner.score(step, found)
            self.keeper.score(place.batch, step, found)
        seed, age = seed_of("pairs", self._supplies.seed, place.first), step - self.keeper.born
        found = [replace(paired(group, self._settings.pairing, seed), age=age or None) for group in found]
        self.scored = found if new else ()
        drawn = 0 if age else tokens_of(self.keeper.groups)
        self._told = {**counted(found), "preference/round": place.round + 1.0, "tokens/sampled": float(drawn)}
        return found

    def metrics(self) -> dict[str, float]:
        """Which round it is, how many pairs there are, and how many tokens were sampled."""
        return self._told

    def _begin(self, step: int, place: Place, prompts: Sequence[Prompt]) -> None:
        """Samples a round; the policy becomes the reference where it is to be: that of the first step is it already."""
        if self._settings.renews and step > 1:
            self._supplies.renew()
        seeds = seeds_of(self._supplies.seed, place.first, prompts, self._settings.completions)
        self.keeper.begin(place.round, step, self._inner.ask(prompts, seeds))
