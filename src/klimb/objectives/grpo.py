"""GRPO: group-relative advantages under PPO's clip (DeepSeekMath, 2402.03300, Eq. 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.base import given, live_rows, movement, spread
from klimb.objectives.penalty import Penalised

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class GRPO(Penalised):
    """loss = PPO clip of A = (R - mean) / (std + 1e-6) of the group, + beta k3(pi / ref); mean over tokens, then rows.

    The k3 term is not weighted by pi / old, as in the paper: on-policy its gradient is that of the *forward*
    KL(ref||pi), off-policy that of neither; `kl.weighted` mends it. Departures: rows without a score are left out, so a
    group may count for less than another; where beta = 0, rows of a group with equal rewards are not run.
    """

    type: Literal["grpo"] = "grpo"
    eps_low: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """How far below one a ratio may fall before it is clipped."""
    eps_high: Annotated[float, Field(gt=0.0)] = 0.2
    """How far above one a ratio may rise before it is clipped; 0.28 is DAPO's clip-higher."""

    @property
    def minimum_group(self) -> int:
        return 2

    def advantage(self, batch: Batch) -> Batch:
        return spread(batch, F.advantage.z_score(self.rewarded(batch), batch.scored, batch.group, len(batch.prompts)))

    def weighting(self, batch: Batch) -> PerToken:
        return F.weighting.row_mean(batch.learn, batch.row, batch.rows)

    def live(self, batch: Batch) -> RowMask:
        return live_rows(batch, forced=self.forced)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        advantage = given(batch, "advantage")
        log_ratio = now.logp - batch.old_or(now.logp)
        ratio = F.importance.ratio(log_ratio)
        loss = F.clip.ppo(ratio, advantage, self.eps_low, self.eps_high)
        live = F.clip.ppo_live(ratio, advantage, self.eps_low, self.eps_high)
        return self.finish(now, batch, loss, movement(log_ratio, ratio, ~live & (advantage != 0)))
