"""The hinge loss on DPO's margin (SLiC, 2305.10425)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from klimb import functional as F
from klimb.objectives.paired import Pairs, Referred

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs
    from klimb.shapes import PerRow


class Hinge(Referred):
    """loss = max(0, 1 - beta (h_w - h_l)): a pair that is told apart by enough has no gradient."""

    type: Literal["hinge"] = "hinge"

    def of_gap(self, gap: PerRow, now: Outputs, batch: Batch, pairs: Pairs) -> PerRow:
        return F.preference.hinge(gap, self.beta)
