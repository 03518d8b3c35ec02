"""What every objective is: a settings record that fills advantages, weighs tokens, and says the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from klimb import functional as F
from klimb.config import Settings

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class Objective(Settings):
    """A policy objective. Minimise `loss`; everything it returns is a sum weighted by `batch.weight`."""

    needs: ClassVar[frozenset[str]] = frozenset({"groups"})
    """What the source must give: groups (scored samples), pairs, labels."""

    minimum_group: ClassVar[int] = 1
    """The fewest completions a prompt that this objective can learn from."""

    @property
    def refers(self) -> bool:
        """Whether the log-probs of the initial policy are needed (`batch.ref`)."""
        return False

    def advantage(self, batch: Batch) -> Batch:
        """The batch with `advantage[t]` filled, from `reward[r]` of scored rows only."""
        raise NotImplementedError

    def weighting(self, batch: Batch) -> PerToken:
        """A weight per token, zero where `learn` is False, summing to one over the whole optimizer step."""
        return F.weighting.token_mean(batch.learn)

    def live(self, batch: Batch) -> RowMask:
        """The rows that can contribute a gradient; the others are never run. `advantage` and `weight` are there."""
        raise NotImplementedError

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        """The surrogate loss and its metrics, from `now` = the current policy on `batch`."""
        raise NotImplementedError
