"""Fresh and replayed groups in one batch: what the policy draws now, and what it, or a log, had before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from klimb.errors import KlimbError
from klimb.generation.base import Sampling
from klimb.sources.base import Demands, Experience, Supplies
from klimb.sources.buffer import Buffer, Replays
from klimb.sources.fitness import Log, fingerprint, fits, read_log
from klimb.sources.online import Online, OnlineExperience, seeds_of
from klimb.types import Group

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Hybrid(Replays):
    """At every step `prompts` groups, of which a share comes out of a buffer and the rest is sampled and scored.

    The buffer holds the newest `capacity` groups that this run has drawn, and the groups of `logs`. Where it holds
    fewer than the share asks for, more are sampled: a batch is always of `prompts` groups.
    """

    type: Literal["hybrid"] = "hybrid"
    gives: ClassVar[frozenset[str]] = frozenset({"groups"})
    draws: ClassVar[bool] = True
    completions: Annotated[int, Field(ge=1)] = 8
    """How many answers are drawn of each prompt, and the most that are taken of a group of a log."""
    share: Share = 0.5
    """The share of groups that are replayed, at the first step."""
    final: Share | None = None
    """The share after `over` steps, to which it goes in a straight line; null = it stays."""
    over: Annotated[int, Field(ge=1)] = 100
    """How many steps the share takes to become `final`."""
    capacity: Annotated[int, Field(ge=1)] = 256
    """How many of its own groups the buffer holds: the newest ones."""
    logs: Path | None = None
    """What the buffer holds from the beginning: a rollouts file, a folder of them, or a run; null = nothing."""

    def replayed(self, step: int) -> int:
        """How many groups of step `step` the share asks for."""
        final = self.share if self.final is None else self.final
        gone = min(1.0, (step - 1) / self.over)
        return round((self.share + (final - self.share) * gone) * self.prompts)

    def sampled(self, step: int) -> int:
        """How many prompts step `step` asks, once the buffer holds enough."""
        return self.prompts - self.replayed(step)

    def fingerprint(self) -> str:
        return fingerprint(self.logs) if self.logs else ""

    def conflicts(self, corrected: bool, sampling: Sampling, refers: bool) -> Iterator[KlimbError]:
        yield from super().conflicts(corrected, sampling, refers)
        if not sampling.transform.comparable:
            yield KlimbError(
                "learn again from its own samples (source.type=hybrid)",
                "sampling.top_p, top_k or forking, which leave them without an importance weight",
                "sampling.top_p=1.0 sampling.top_k=0 and no sampling.forking, or source.type=online",
            )

    def read(self, demands: Demands, steps: int = 1) -> Log:
        """The groups of the log that are fit; none where there is no log. Raises DataError."""
        return Log() if self.logs is None else read_log(self, self.logs, self.completions, demands)

    def open(self, supplies: Supplies) -> Experience:
        """The log, read; the sampler, ready."""
        return HybridExperience(self, supplies, self.read(supplies.demands))


class HybridExperience:
    """The opened source. `keeper` is what a checkpoint holds of it."""

    def __init__(self, settings: Hybrid, supplies: Supplies, log: Log) -> None:
        if settings.logs is not None:
            fits(log, supplies.vocabulary, supplies.context, settings.logs)
        self._settings, self._supplies, self._log = settings, supplies, log
        online = Online(prompts=settings.prompts, completions=settings.completions)
        self._fresh = OnlineExperience(online, supplies)
        self.keeper = Buffer(settings, supplies.seed, log.held, settings.capacity)
        self._told: dict[str, float] = {}

    def groups(self, step: int) -> list[Group]:
        """The groups of step `step`: the fresh ones first."""
        again = self.keeper.draw(step, self._settings.replayed(step))
        size = len(self.keeper.young(step))
        count = self._settings.prompts - len(again)
        prompts = [self._supplies.prompts[index] for index in self._fresh.indices(step)[:count]]
        seeds = seeds_of(self._supplies.seed, step, prompts, self._settings.completions)
        fresh = self._fresh.drawn(step, prompts, seeds) if prompts else []
        self.keeper.add(step, fresh)
        self._told = {"replay/share": len(again) / self._settings.prompts, "replay/buffer": float(size)}
        return [*fresh, *again]

    def metrics(self) -> dict[str, float]:
        """The share that was replayed, and how many groups could have been."""
        return self._told

    def describe(self) -> str:
        """What is replayed."""
        if self._settings.logs is None:
            return "the buffer begins empty"
        return f"the buffer begins with {self._log.describe()}, from {self._settings.logs}"
