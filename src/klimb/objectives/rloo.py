"""RLOO: REINFORCE on whole answers with the leave-one-out baseline (Back to Basics, 2402.14740)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from klimb import functional as F
from klimb.objectives.base import given, lifted, live_rows, movement, spread
from klimb.objectives.penalty import KL, Penalised

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class RLOO(Penalised):
    """loss = -w A with A = R - mean of the *other* answers to the prompt, w the whole answer's ratio; mean over rows.

    Unbiased for the expected reward, on- and off-policy: the baseline does not see the sample, and the ratio is of the
    sequence. With beta, R is less beta log(old / ref) of the whole answer, as in the paper, which is on-policy (w = 1).
    """

    type: Literal["rloo"] = "rloo"
    kl: KL = KL(where="reward", estimator="k1")

    @property
    def minimum_group(self) -> int:
        return 2

    def advantage(self, batch: Batch) -> Batch:
        reward = self.rewarded(batch)
        return spread(batch, F.advantage.leave_one_out(reward, batch.scored, batch.group, len(batch.prompts)))

    def weighting(self, batch: Batch) -> PerToken:
        return F.weighting.row_mean(batch.learn, batch.row, batch.rows)

    def live(self, batch: Batch) -> RowMask:
        return live_rows(batch, forced=self.forced)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        log_ratio = now.logp - batch.old_or(now.logp)

        whole = partial(lifted, level="sequence")
        ratio = F.importance.ratio(whole(log_ratio, batch))
        nowhere = ~batch.learn  # of the tokens that have a weight
        loss = F.clip.none(ratio, given(batch, "advantage"))
        return self.finish(now, batch, loss, movement(log_ratio, ratio, nowhere), whole)
