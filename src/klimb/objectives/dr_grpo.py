"""Dr. GRPO: GRPO without its two divisions (Understanding R1-Zero-Like Training, 2503.20783)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.base import given, live_rows, movement, spread
from klimb.objectives.penalty import Penalised

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class DrGRPO(Penalised):
    """loss = PPO clip of A = R - mean of the group; each token weighs 1 / (rows x `length`), whatever its row's length.

    No division by the spread of rewards (which favours very easy and very hard prompts) or by the answer's own length
    (which favours long wrong ones). The weights do not sum to one but to the mean length over `length`: the gradient
    has the paper's size, and metrics are divided by that sum. The paper has no KL.
    """

    type: Literal["dr_grpo"] = "dr_grpo"
    length: Annotated[int, Field(ge=1)]
    """The constant by which each row's sum is divided; the paper's is `sampling.max_tokens`."""
    eps_low: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """How far below one a ratio may fall before it is clipped."""
    eps_high: Annotated[float, Field(gt=0.0)] = 0.2
    """How far above one a ratio may rise before it is clipped."""

    @property
    def minimum_group(self) -> int:
        return 2

    def advantage(self, batch: Batch) -> Batch:
        return spread(
            batch, F.advantage.group_mean(self.rewarded(batch), batch.scored, batch.group, len(batch.prompts))
        )

    def weighting(self, batch: Batch) -> PerToken:
        return F.weighting.constant(batch.learn, batch.row, batch.rows, self.length)

    def live(self, batch: Batch) -> RowMask:
        return live_rows(batch, forced=self.forced)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        advantage = given(batch, "advantage")
        log_ratio = now.logp - batch.old_or(now.logp)
        ratio = F.importance.ratio(log_ratio)
        live = F.clip.ppo_live(ratio, advantage, self.eps_low, self.eps_high)
        loss = F.clip.ppo(ratio, advantage, self.eps_low, self.eps_high)
        return self.finish(now, batch, loss, movement(log_ratio, ratio, ~live & (advantage != 0)))
