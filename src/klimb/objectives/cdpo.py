"""Conservative DPO (Mitchell, 2023): preferences are wrong with a known probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from klimb import functional as F
from klimb.objectives.paired import Noise, Pairs, Referred

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs
    from klimb.shapes import PerRow


class CDPO(Referred):
    """loss = -(1 - e) log s(z) - e log s(-z), z = beta (h_w - h_l): least where s(z) = 1 - e."""

    type: Literal["cdpo"] = "cdpo"
    noise: Noise = 0.1
    """The share of preferences that are taken to be the wrong way round."""

    def of_gap(self, gap: PerRow, now: Outputs, batch: Batch, pairs: Pairs) -> PerRow:
        return F.preference.conservative(gap, self.beta, self.noise)
