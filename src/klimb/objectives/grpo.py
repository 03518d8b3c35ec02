"""GRPO: group-relative advantages under PPO's clip (DeepSeekMath, 2402.03300, Eq. 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.base import Objective, given, live_rows, movement, spread, terms

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class GRPO(Objective):
    """loss = PPO clip of A = (R - mean) / (std + 1e-6) of the group, + beta k3(pi / ref); mean over tokens, then rows.

    The k3 term is not weighted by pi / old, as in the paper: on-policy its gradient is that of the *forward*
    KL(ref||pi), off-policy that of neither. Departures: rows without a score are left out, so a group may count for
    less than another; where beta = 0, rows of a group with equal rewards are not run (their gradient is zero).
    """

    type: Literal["grpo"] = "grpo"
    eps_low: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """How far below one a ratio may fall before it is clipped."""
    eps_high: Annotated[float, Field(gt=0.0)] = 0.2
    """How far above one a ratio may rise before it is clipped; 0.28 is DAPO's clip-higher."""
    beta: Annotated[float, Field(ge=0.0)] = 0.0
    """The weight of the KL to the initial policy; 0 = none, and no reference is run."""

    @property
    def minimum_group(self) -> int:
        return 2

    @property
    def refers(self) -> bool:
        return self.beta > 0

    def advantage(self, batch: Batch) -> Batch:
        return spread(batch, F.advantage.z_score(batch.reward, batch.scored, batch.group, len(batch.prompts)))

    def weighting(self, batch: Batch) -> PerToken:
        return F.weighting.row_mean(batch.learn, batch.row, batch.rows)

    def live(self, batch: Batch) -> RowMask:
        return live_rows(batch, forced=self.refers)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        advantage = given(batch, "advantage")
        log_ratio = now.logp - batch.old_or(now.logp)
        ratio = F.importance.ratio(log_ratio)
        loss = F.clip.ppo(ratio, advantage, self.eps_low, self.eps_high)
        live = F.clip.ppo_live(ratio, advantage, self.eps_low, self.eps_high)
        metrics = movement(log_ratio, ratio, ~live & (advantage != 0))
        if self.refers:
            metrics["policy/kl_ref"] = penalty = F.divergence.k3(now.logp - given(batch, "ref"))
            loss = loss + self.beta * penalty
        return terms(batch, loss, metrics)
