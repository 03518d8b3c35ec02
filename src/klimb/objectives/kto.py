"""KTO (2402.01306): answers that are desirable or not, one by one, against a reference point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.base import given, terms
from klimb.objectives.paired import Referred, labels, log_ratio, paired, summed
from klimb.types import Label

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken

Weight = Annotated[float, Field(gt=0.0)]


class KTO(Referred):
    """loss = lambda (1 - s(sign beta (h - z0))), z0 = max(0, mean h of mismatched rows), which has no gradient.

    A mismatched row is the answer to another prompt of the batch; its h is that of the policy before the first pass.
    lambda_D n_D / (lambda_U n_U) should lie between 1 and 4/3 (the paper, Eq. 9).
    """

    type: Literal["kto"] = "kto"
    desirable: Weight = 1.0
    """lambda_D, the weight of desirable answers."""
    undesirable: Weight = 1.0
    """lambda_U, the weight of undesirable answers."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"labels"})

    @property
    def reads_old(self) -> bool:
        return True

    def advantage(self, batch: Batch) -> Batch:
        import torch

        other = labels(batch) == Label.MISMATCHED
        h = summed(given(batch, "old") - given(batch, "ref"), batch)[other]
        point = h.mean().clamp(min=0) if len(h) else torch.zeros((), dtype=h.dtype)
        return batch.replace(advantage=point.expand(len(batch.row)).clone())

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        import torch

        h, row = log_ratio(now, batch), batch.row
        wanted = labels(batch) == Label.CHOSEN
        point = F.segments.mean_by(given(batch, "advantage"), batch.learn, row, batch.rows)
        sign = torch.where(wanted, torch.ones_like(h), -torch.ones_like(h))
        weight = torch.where(wanted, torch.full_like(h, self.desirable), torch.full_like(h, self.undesirable))
        loss = weight * F.preference.kto(h, point, sign, self.beta)
        right = (sign * (h - point) > 0).to(h.dtype).detach()
        metrics: dict[str, PerToken] = {"preference/accuracy": right[row], "preference/point": point[row]}
        return terms(batch, torch.where(paired(batch), loss, torch.zeros_like(loss))[row], metrics)
