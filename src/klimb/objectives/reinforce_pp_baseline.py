"""REINFORCE++-baseline: group mean, then whitening over the step, and a k2 loss (2501.03262)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.base import given, live_rows, movement, spread
from klimb.objectives.penalty import KL, Penalised

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class ReinforcePPBaseline(Penalised):
    """loss = PPO clip of A = R - mean of the group, whitened over all learning tokens, + beta k2(pi / ref).

    On-policy the k2 term has exactly the gradient of the reverse KL(pi||ref); it is not weighted by pi / old, so
    off-policy it has the gradient of neither divergence.
    """

    type: Literal["reinforce_pp_baseline"] = "reinforce_pp_baseline"
    eps_low: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """How far below one a ratio may fall before it is clipped."""
    eps_high: Annotated[float, Field(gt=0.0)] = 0.2
    """How far above one a ratio may rise before it is clipped."""
    kl: KL = KL(estimator="k2")

    @property
    def minimum_group(self) -> int:
        return 2

    @property
    def beyond_group(self) -> bool:
        return True

    def advantage(self, batch: Batch) -> Batch:
        whole = spread(batch, F.advantage.group_mean(batch.reward, batch.scored, batch.group, len(batch.prompts)))
        charged = self.charged(batch, given(whole, "advantage"))
        return whole.replace(advantage=F.advantage.whitened(charged, batch.learn))

    def weighting(self, batch: Batch) -> PerToken:
        return F.weighting.token_mean(batch.learn)

    def live(self, batch: Batch) -> RowMask:
        return live_rows(batch, forced=self.forced)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        advantage = given(batch, "advantage")
        log_ratio = now.logp - batch.old_or(now.logp)
        ratio = F.importance.ratio(log_ratio)
        live = F.clip.ppo_live(ratio, advantage, self.eps_low, self.eps_high)
        loss = F.clip.ppo(ratio, advantage, self.eps_low, self.eps_high)
        return self.finish(now, batch, loss, movement(log_ratio, ratio, ~live & (advantage != 0)))
