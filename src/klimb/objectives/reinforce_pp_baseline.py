"""REINFORCE++-baseline: group mean, then whitening over the step, and a k2 loss (2501.03262)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.base import Objective, given, live_rows, movement, spread, terms

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class ReinforcePPBaseline(Objective):
    """loss = PPO clip of A = R - mean of the group, whitened over all learning tokens, + beta k2(pi / ref).

    On-policy the k2 term has exactly the gradient of the reverse KL(pi||ref); it is not weighted by pi / old, so
    off-policy it has the gradient of neither divergence.
    """

    type: Literal["reinforce_pp_baseline"] = "reinforce_pp_baseline"
    eps_low: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """How far below one a ratio may fall before it is clipped."""
    eps_high: Annotated[float, Field(gt=0.0)] = 0.2
    """How far above one a ratio may rise before it is clipped."""
    beta: Annotated[float, Field(ge=0.0)] = 0.0
    """The weight of the KL to the initial policy; 0 = none, and no reference is run."""

    @property
    def minimum_group(self) -> int:
        return 2

    @property
    def refers(self) -> bool:
        return self.beta > 0

    def advantage(self, batch: Batch) -> Batch:
        whole = spread(batch, F.advantage.group_mean(batch.reward, batch.scored, batch.group, len(batch.prompts)))
        return whole.replace(advantage=F.advantage.whitened(given(whole, "advantage"), batch.learn))

    def weighting(self, batch: Batch) -> PerToken:
        return F.weighting.token_mean(batch.learn)

    def live(self, batch: Batch) -> RowMask:
        return live_rows(batch, forced=self.refers)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        advantage = given(batch, "advantage")
        log_ratio = now.logp - batch.old_or(now.logp)
        ratio = F.importance.ratio(log_ratio)
        live = F.clip.ppo_live(ratio, advantage, self.eps_low, self.eps_high)
        loss = F.clip.ppo(ratio, advantage, self.eps_low, self.eps_high)
        metrics = movement(log_ratio, ratio, ~live & (advantage != 0))
        if self.refers:
            gap = now.logp - given(batch, "ref")
            loss = loss + self.beta * F.divergence.k2(gap)
            metrics["policy/kl_ref"] = F.divergence.k3(gap)
        return terms(batch, loss, metrics)
