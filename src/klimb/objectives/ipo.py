"""IPO (2310.12036): a squared loss, whose optimum is finite however sure the preferences are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from klimb import functional as F
from klimb.objectives.paired import Pairs, Referred, averaged

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs
    from klimb.shapes import PerRow


class IPO(Referred):
    """loss = (h_w - h_l - 1 / (2 beta))^2. `beta` is the paper's tau, and h a sum over tokens, as in the paper."""

    type: Literal["ipo"] = "ipo"
    lengths: Literal["sum", "mean"] = "sum"
    """Whether h is a sum over an answer's tokens (the paper), or their mean (as TRL's DPOTrainer computes it)."""

    def of_gap(self, gap: PerRow, now: Outputs, batch: Batch, pairs: Pairs) -> PerRow:
        if self.lengths == "mean" and batch.ref is not None:
            mean = averaged(now.logp - batch.ref, batch)
            gap = mean[pairs.chosen] - mean[pairs.rejected]
        return F.preference.ipo(gap, self.beta)
