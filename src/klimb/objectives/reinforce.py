"""REINFORCE (Williams, 1992) with a choice of baseline, importance-weighted off-policy."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from klimb import functional as F
from klimb.objectives.base import given, lifted, live_rows, movement, spread
from klimb.objectives.carried import BASELINE, Carried, Decay
from klimb.objectives.penalty import KL, Penalised

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class Reinforce(Penalised):
    """loss = -w A, whose gradient is -w A grad log pi, with w = pi / old (one on the first on-policy pass).

    Token ratios leave out how the prefix's probability changed: exact only while old = pi. Sequence ratios are exact
    off-policy (with weights by row), with a variance that grows with the length.
    """

    type: Literal["reinforce"] = "reinforce"
    baseline: Literal["none", "batch", "moving", "group", "leave_one_out"] = "group"
    """What is taken off each reward: nothing, the batch's mean, a moving mean of the rewards of earlier steps, its
    group's mean, or the mean of its group's others."""
    decay: Decay = 0.9
    """Baseline `moving`: how much of its mean each step keeps."""
    level: Literal["token", "sequence"] = "token"
    """Whether a ratio is of one token, or the product over its sequence; the latter weighs rows equally."""
    kl: KL = KL(where="reward", estimator="k1")

    @property
    def carried(self) -> Carried:
        decay = self.decay if self.baseline == "moving" else None
        return replace(super().carried, decay=decay)

    @property
    def minimum_group(self) -> int:
        return 2 if self.baseline in ("group", "leave_one_out") else 1

    @property
    def beyond_group(self) -> bool:
        return self.baseline not in ("group", "leave_one_out")

    def advantage(self, batch: Batch) -> Batch:
        reward = self.rewarded(batch)
        if self.baseline == "moving":
            return spread(batch, F.advantage.moving(reward, batch.scored, batch.carried.get(BASELINE, 0.0)))
        choose = {
            "none": F.advantage.uncentred,
            "batch": F.advantage.batch_mean,
            "group": F.advantage.group_mean,
            "leave_one_out": F.advantage.leave_one_out,
        }[self.baseline]
        return spread(batch, choose(reward, batch.scored, batch.group, len(batch.prompts)))

    def weighting(self, batch: Batch) -> PerToken:
        if self.level == "sequence":
            return F.weighting.row_mean(batch.learn, batch.row, batch.rows)
        return F.weighting.token_mean(batch.learn)

    def live(self, batch: Batch) -> RowMask:
        return live_rows(batch, forced=self.forced)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        advantage = given(batch, "advantage")
        log_ratio = now.logp - batch.old_or(now.logp)

        lift = partial(lifted, level=self.level)
        ratio = F.importance.ratio(lift(log_ratio, batch))
        nowhere = ~batch.learn  # of the tokens that have a weight
        loss = F.clip.none(ratio, advantage)
        return self.finish(now, batch, loss, movement(log_ratio, ratio, nowhere), lift)
