"""ORPO (2403.07691): likelihood of the chosen answer and the odds against the rejected one, without a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.paired import Paired, Pairs, averaged

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs
    from klimb.shapes import PerRow


class ORPO(Paired):
    """loss = -m_w - odds log s(log odds_w - log odds_l), odds = p / (1 - p), p = exp(m), m the mean log-prob."""

    type: Literal["orpo"] = "orpo"
    odds: Annotated[float, Field(gt=0.0)] = 0.1
    """The weight of the odds ratio (the paper's lambda)."""

    def of_gap(self, gap: PerRow, now: Outputs, batch: Batch, pairs: Pairs) -> PerRow:
        mean = averaged(now.logp, batch)
        chosen, rejected = mean[pairs.chosen], mean[pairs.rejected]
        return -chosen + self.odds * F.preference.orpo(chosen, rejected)
