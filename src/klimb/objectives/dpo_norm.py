"""Length-normalised DPO: the implicit reward is a mean over tokens (2405.14734, App., as `sigmoid_norm` in TRL)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from klimb import functional as F
from klimb.objectives.paired import Beta, Pairs, Referred, averaged

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs
    from klimb.shapes import PerRow


class DPONorm(Referred):
    """loss = -log s(beta (h_w / |w| - h_l / |l|)): a longer answer has no larger reward for its length alone."""

    type: Literal["dpo_norm"] = "dpo_norm"
    beta: Beta = 2.0
    """The scale of the mean log-ratio; larger than DPO's, since it is one token's."""

    def of_gap(self, gap: PerRow, now: Outputs, batch: Batch, pairs: Pairs) -> PerRow:
        mean = averaged(now.logp if batch.ref is None else now.logp - batch.ref, batch)
        return F.preference.dpo(mean[pairs.chosen] - mean[pairs.rejected], self.beta)
