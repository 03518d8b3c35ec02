"""REINFORCE (Williams, 1992) with a choice of baseline, importance-weighted off-policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from klimb import functional as F
from klimb.objectives.base import Objective, given, live_rows, movement, spread, terms

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class Reinforce(Objective):
    """loss = -w A, whose gradient is -w A grad log pi, with w = pi / old (one on the first on-policy pass).

    Token ratios leave out how the prefix's probability changed: exact only while old = pi. Sequence ratios are exact
    off-policy (with weights by row), with a variance that grows with the length.
    """

    type: Literal["reinforce"] = "reinforce"
    baseline: Literal["none", "batch", "group", "leave_one_out"] = "group"
    """What is taken off each reward: nothing, the batch's mean, its group's mean, or the mean of its group's others."""
    level: Literal["token", "sequence"] = "token"
    """Whether a ratio is of one token, or the product over its sequence; the latter weighs rows equally."""

    @property
    def minimum_group(self) -> int:
        return 2 if self.baseline in ("group", "leave_one_out") else 1

    def advantage(self, batch: Batch) -> Batch:
        choose = {
            "none": F.advantage.uncentred,
            "batch": F.advantage.batch_mean,
            "group": F.advantage.group_mean,
            "leave_one_out": F.advantage.leave_one_out,
        }[self.baseline]
        return spread(batch, choose(batch.reward, batch.scored, batch.group, len(batch.prompts)))

    def weighting(self, batch: Batch) -> PerToken:
        if self.level == "sequence":
            return F.weighting.row_mean(batch.learn, batch.row, batch.rows)
        return F.weighting.token_mean(batch.learn)

    def live(self, batch: Batch) -> RowMask:
        return live_rows(batch, forced=False)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        advantage = given(batch, "advantage")
        log_ratio = now.logp - batch.old_or(now.logp)
        whole = log_ratio
        if self.level == "sequence":
            whole = F.importance.product(log_ratio, batch.learn, batch.row, batch.rows)
        ratio = F.importance.ratio(whole)
        nowhere = ~batch.learn  # of the tokens that have a weight
        return terms(batch, F.clip.none(ratio, advantage), movement(log_ratio, ratio, nowhere))
