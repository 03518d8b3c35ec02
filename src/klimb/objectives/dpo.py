"""DPO (2305.18290), with label noise taken into account in two ways, or an NLL term beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.paired import Pairs, Referred, averaged

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs
    from klimb.shapes import PerRow


class DPO(Referred):
    """loss = -log s(beta (h_w - h_l)), h = log pi(y) - log ref(y) summed over the tokens of the answer, EOS included.

    With `nll` a multiple of the chosen answer's mean negative log-prob is added (Iterative RPO, 2404.19733, Sec. 2).
    """

    type: Literal["dpo"] = "dpo"
    nll: Annotated[float, Field(ge=0.0)] = 0.0
    """The weight of the chosen answer's negative log-likelihood, per token, beside the preference loss."""

    def of_gap(self, gap: PerRow, now: Outputs, batch: Batch, pairs: Pairs) -> PerRow:
        loss = F.preference.dpo(gap, self.beta)
        return loss - self.nll * averaged(now.logp, batch)[pairs.chosen] if self.nll else loss
