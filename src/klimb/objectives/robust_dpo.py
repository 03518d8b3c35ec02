"""Robust DPO (2403.00409): unbiased for the loss under clean preferences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from klimb import functional as F
from klimb.objectives.paired import Noise, Pairs, Referred

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs
    from klimb.shapes import PerRow


class RobustDPO(Referred):
    """loss = [-(1 - e) log s(z) + e log s(-z)] / (1 - 2e), z = beta (h_w - h_l). Unbounded below."""

    type: Literal["robust_dpo"] = "robust_dpo"
    noise: Noise = 0.1
    """The share of preferences that are taken to be the wrong way round."""

    def of_gap(self, gap: PerRow, now: Outputs, batch: Batch, pairs: Pairs) -> PerRow:
        return F.preference.robust(gap, self.beta, self.noise)
