"""SimPO (2405.14734): mean log-probs and a target margin, without a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.paired import Beta, Paired, Pairs, averaged

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs
    from klimb.shapes import PerRow


class SimPO(Paired):
    """loss = -log s(beta (m_w - m_l) - gamma), m = log pi(y) / |y|, gamma = margin * beta."""

    type: Literal["simpo"] = "simpo"
    beta: Beta = 2.0
    """The scale of the mean log-prob; the paper's settings lie between 2 and 10."""
    margin: Annotated[float, Field(ge=0.0)] = 0.5
    """The paper's gamma / beta: how much larger the chosen answer's mean log-prob should be."""

    def of_gap(self, gap: PerRow, now: Outputs, batch: Batch, pairs: Pairs) -> PerRow:
        mean = averaged(now.logp, batch)
        return F.preference.simpo(mean[pairs.chosen], mean[pairs.rejected], self.beta, self.margin * self.beta)
