"""Offline experience: groups of a log, and nothing is sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from klimb.errors import DataError, KlimbError
from klimb.generation.base import Sampling
from klimb.sources.base import Demands, Experience, Supplies
from klimb.sources.buffer import Buffer, Held, Replays
from klimb.sources.fitness import Log, fingerprint, fits, read_log
from klimb.sources.weighed import weighed
from klimb.types import Group, Rollout


class Replayed(Replays):
    """At every step `prompts` groups of a log (an import, or a run's rollouts); no answer is sampled in training.

    Rewards are those of the log. Held-out problems are still asked and scored, by the recipe's rewards.
    """

    type: Literal["replayed"] = "replayed"
    gives: ClassVar[frozenset[str]] = frozenset({"groups"})
    logs: Path
    """A rollouts file (Parquet), a folder of them, or a run directory."""
    completions: Annotated[int, Field(ge=1)] = 64
    """The most answers of a group that are learned from: the first ones."""

    def sampled(self, step: int) -> int:
        return 0

    def fingerprint(self) -> str:
        return fingerprint(self.logs)

    def conflicts(self, corrected: bool, sampling: Sampling, refers: bool) -> Iterator[KlimbError]:
        yield from super().conflicts(corrected, sampling, refers)
        if self.old == "behaviour" and corrected:
            found = "source.old=behaviour: the objective's own ratio is that weight already, and no answer is fresh"
            yield weighed(found, "training.correction.type=none, or source.old=trainer")

    def read(self, demands: Demands, steps: int = 1) -> Log:
        """The groups that are fit, enough for `steps` steps. Raises DataError with the reason where they are not."""
        log = self.usable(read_log(self, self.logs, self.completions, demands), demands)
        young = len(Buffer(self, 0, log.held).young(steps))
        if young < self.prompts:
            raise DataError(
                f"learn for {steps} steps from logs of at most {self.stale} versions ago (source.stale)",
                f"{young} of {len(log.held)} groups are that young at the last step",
                "source.stale=null, fewer training.steps, or source.type=hybrid",
            )
        return log

    def usable(self, log: Log, demands: Demands) -> Log:
        """Of the groups that are fit, what is learned from. Raises DataError where that is too few."""
        return log

    def open(self, supplies: Supplies) -> Experience:
        """The log, read and ready."""
        return ReplayedExperience(self, supplies, self.read(supplies.demands))


class ReplayedExperience:
    """The opened source."""

    def __init__(self, settings: Replayed, supplies: Supplies, log: Log) -> None:
        if supplies.ended is not None:
            log = replace(log, held=[_ended(held, supplies.ended) for held in log.held])
        fits(log, supplies.vocabulary, supplies.context, settings.logs)
        self._settings, self._log, self._context = settings, log, supplies.context
        self._buffer = Buffer(settings, supplies.seed, log.held)

    def groups(self, step: int) -> list[Group]:
        """The groups of step `step`."""
        return self._buffer.draw(step, self._settings.prompts)

    def metrics(self) -> dict[str, float]:
        """How many groups there are."""
        return {"replay/buffer": float(len(self._log.held))}

    def describe(self) -> str:
        """What is replayed."""
        return f"{self._log.describe()}, from {self._settings.logs}"


def _ended(held: Held, ended: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Held:
    """The group with its answers' tokens as they are learned from; of one that gets EOS nothing else is by token."""

    def of(row: Rollout) -> Rollout:
        done = row.completion
        tokens = ended(done.tokens)
        if tokens == done.tokens:
            return row
        return replace(row, completion=replace(done, tokens=tokens, logps=(), entropies=()))

    return replace(held, group=replace(held.group, rollouts=tuple(map(of, held.group.rollouts))))
