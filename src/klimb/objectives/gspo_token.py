"""GSPO-token: GSPO's row ratio with a gradient and an advantage of each token's own (2507.18071, Eq. 13 and 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.base import given, live_rows, movement, spread
from klimb.objectives.penalty import Penalised

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class GSPOToken(Penalised):
    """loss = PPO clip of A_t with SG(s_i) pi / SG(pi), s_i the row's geometric mean ratio; mean over tokens, then rows.

    Where every token has the row's advantage it is GSPO, gradient for gradient. With the KL in the reward each token
    pays from itself to the end, so that A differs within a row: that is what this form is for.
    """

    type: Literal["gspo_token"] = "gspo_token"
    eps_low: Annotated[float, Field(gt=0.0, le=1.0)] = 3e-4
    """How far below one a row's ratio may fall before its tokens that are pushed down are clipped."""
    eps_high: Annotated[float, Field(gt=0.0)] = 4e-4
    """How far above one a row's ratio may rise before its tokens that are pushed up are clipped."""

    @property
    def minimum_group(self) -> int:
        return 2

    def advantage(self, batch: Batch) -> Batch:
        whole = spread(batch, F.advantage.z_score(batch.reward, batch.scored, batch.group, len(batch.prompts)))
        return whole.replace(advantage=self.charged(batch, given(whole, "advantage")))

    def weighting(self, batch: Batch) -> PerToken:
        return F.weighting.row_mean(batch.learn, batch.row, batch.rows)

    def live(self, batch: Batch) -> RowMask:
        return live_rows(batch, forced=self.forced)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        advantage = given(batch, "advantage")
        log_ratio = now.logp - batch.old_or(now.logp)
        row = F.importance.ratio(F.importance.geometric(log_ratio, batch.learn, batch.row, batch.rows))
        ratio = F.importance.straight(row, now.logp)
        live = F.clip.ppo_live(ratio, advantage, self.eps_low, self.eps_high)
        loss = F.clip.ppo(ratio, advantage, self.eps_low, self.eps_high)
        return self.finish(now, batch, loss, movement(log_ratio, ratio, ~live & (advantage != 0)))
