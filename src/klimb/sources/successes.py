"""The successes of a log, to learn by their likelihood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal

from klimb.errors import KlimbError
from klimb.generation.base import Sampling
from klimb.sources.base import Demands
from klimb.sources.fitness import Log, too_few
from klimb.sources.replayed import Replayed
from klimb.types import Group, Label


class Successes(Replayed):
    """At every step `prompts` groups of a log, of which only the answers are kept whose reward is at least `success`.

    What drew them does not matter: no log-probs are needed. Groups without a success are left out.
    """

    type: Literal["successes"] = "successes"  # type: ignore[assignment]
    gives: ClassVar[frozenset[str]] = frozenset({"answers"})

    def conflicts(self, corrected: bool, sampling: Sampling) -> Iterator[KlimbError]:
        if corrected:
            yield KlimbError(
                "weigh given answers by training.correction",
                "source.type=successes, which learns from them as they are",
                "training.correction.type=none",
            )

    def read(self, demands: Demands, steps: int = 1) -> Log:
        log = super().read(demands, steps)
        kept = [replace(held, group=self._good(held.group)) for held in log.held if held.success > 0]
        log.left["no success"] += len(log.held) - len(kept)
        log.held = kept
        if len(kept) < self.prompts:
            raise too_few(log, self, self.logs, demands)
        return log

    def _good(self, group: Group) -> Group:
        """The successes alone, labelled, without the log-probs of whoever drew them."""
        good = [r for r in group.rollouts if r.reward is not None and r.reward >= self.success]
        bare = (replace(r, completion=replace(r.completion, logps=()), label=Label.CHOSEN) for r in good)
        return replace(group, rollouts=tuple(bare))
