"""Logs without importance weights: answers labelled by their rewards, whatever drew them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from klimb.errors import KlimbError
from klimb.generation.base import Sampling
from klimb.sources.base import Demands
from klimb.sources.fitness import Log, too_few
from klimb.sources.replayed import Replayed
from klimb.sources.weighed import weighed
from klimb.types import Group


class Unweighted(Replayed):
    """Groups of a log whose answers get labels; no log-probs of whoever drew them are needed, and none are kept."""

    lack: ClassVar[str]
    """The reason for which a group is left out that has nothing to label."""

    def speaks(self, reads_logp: bool) -> bool:
        return reads_logp  # what learns from it without them is a reward model, which is never asked anything

    def labelled(self, group: Group) -> Group | None:
        """The group with the answers that learn, labelled; None where there is nothing to label."""
        raise NotImplementedError

    def conflicts(self, corrected: bool, sampling: Sampling, refers: bool) -> Iterator[KlimbError]:
        if corrected:
            yield weighed(f"source.type={self.type}, which learns from a log's answers as they are")

    def usable(self, log: Log, demands: Demands) -> Log:
        found = [(held, self.labelled(held.group)) for held in log.held]
        kept = [replace(held, group=_bare(group)) for held, group in found if group is not None]
        log.left[self.lack] += len(found) - len(kept)
        log.held = kept
        if len(kept) < self.prompts:
            raise too_few(log, self, self.logs, demands)
        return log


def _bare(group: Group) -> Group:
    """The group without the log-probs of whoever drew it."""
    rows = (replace(row, completion=replace(row.completion, logps=())) for row in group.rollouts)
    return replace(group, rollouts=tuple(rows))
