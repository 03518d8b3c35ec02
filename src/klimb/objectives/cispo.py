"""CISPO: capped importance weights that clip no gradient away (MiniMax-M1, 2506.13585, Eq. 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.base import given, live_rows, movement, spread
from klimb.objectives.penalty import Penalised

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class CISPO(Penalised):
    """loss = -SG(min(w, cap)) A log pi with A = (R - mean) / (std + 1e-6); mean over all tokens.

    A token far from the sampler keeps its gradient, with a bounded weight. `cap` bounds the ratio itself: other
    code writes it as 1 + eps. No lower bound, as the paper runs it, which has no KL.
    """

    type: Literal["cispo"] = "cispo"
    cap: Annotated[float, Field(gt=1.0)] = 5.0
    """The largest weight of a token."""

    @property
    def minimum_group(self) -> int:
        return 2

    def advantage(self, batch: Batch) -> Batch:
        return spread(batch, F.advantage.z_score(self.rewarded(batch), batch.scored, batch.group, len(batch.prompts)))

    def weighting(self, batch: Batch) -> PerToken:
        return F.weighting.token_mean(batch.learn)

    def live(self, batch: Batch) -> RowMask:
        return live_rows(batch, forced=self.forced)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        advantage = given(batch, "advantage")
        log_ratio = now.logp - batch.old_or(now.logp)
        ratio = F.importance.ratio(log_ratio)
        loss = F.clip.cispo(ratio, advantage, now.logp, self.cap)
        capped = (ratio > self.cap) & (advantage != 0)  # a smaller weight, not a lost gradient
        return self.finish(now, batch, loss, movement(log_ratio, ratio, capped))
