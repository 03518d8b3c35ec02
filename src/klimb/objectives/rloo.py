"""RLOO: REINFORCE on whole answers with the leave-one-out baseline (Back to Basics, 2402.14740)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from klimb import functional as F
from klimb.objectives.base import Objective, given, live_rows, movement, spread, terms

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class RLOO(Objective):
    """loss = -w A with A = R - mean of the *other* answers to the prompt, w the whole answer's ratio; mean over rows.

    Unbiased for the expected reward, on- and off-policy: the baseline does not see the sample, and the ratio is of the
    sequence. Departure: the paper's KL penalty, part of its reward, is not here; the paper is on-policy, where w = 1.
    """

    type: Literal["rloo"] = "rloo"

    @property
    def minimum_group(self) -> int:
        return 2

    def advantage(self, batch: Batch) -> Batch:
        return spread(batch, F.advantage.leave_one_out(batch.reward, batch.scored, batch.group, len(batch.prompts)))

    def weighting(self, batch: Batch) -> PerToken:
        return F.weighting.row_mean(batch.learn, batch.row, batch.rows)

    def live(self, batch: Batch) -> RowMask:
        return live_rows(batch, forced=False)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        log_ratio = now.logp - batch.old_or(now.logp)
        ratio = F.importance.ratio(F.importance.product(log_ratio, batch.learn, batch.row, batch.rows))
        nowhere = ~batch.learn  # of the tokens that have a weight
        return terms(batch, F.clip.none(ratio, given(batch, "advantage")), movement(log_ratio, ratio, nowhere))
