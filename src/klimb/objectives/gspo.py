"""GSPO: one length-normalised ratio a row (Group Sequence Policy Optimization, 2507.18071)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.base import given, live_rows, movement, spread
from klimb.objectives.penalty import Penalised

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class GSPO(Penalised):
    """loss = PPO clip of A = (R - mean) / (std + 1e-6) with the row's geometric mean ratio s_i; mean over rows.

    Every token of a row shares s_i, and its gradient is s_i A / |o| grad log pi. The ratio is no unbiased weight of the
    sequence, and its clip is of the size of 1e-4: token-level bounds do not carry over. The paper has no KL; one in the
    loss is of tokens, and `kl.weighted` weighs it by their own ratios.
    """

    type: Literal["gspo"] = "gspo"
    eps_low: Annotated[float, Field(gt=0.0, le=1.0)] = 3e-4
    """How far below one a row's ratio may fall before the row is clipped."""
    eps_high: Annotated[float, Field(gt=0.0)] = 4e-4
    """How far above one a row's ratio may rise before the row is clipped."""

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
        ratio = F.importance.ratio(F.importance.geometric(log_ratio, batch.learn, batch.row, batch.rows))
        live = F.clip.ppo_live(ratio, advantage, self.eps_low, self.eps_high)
        loss = F.clip.ppo(ratio, advantage, self.eps_low, self.eps_high)
        return self.finish(now, batch, loss, movement(log_ratio, ratio, ~live & (advantage != 0)))
