"""A reward model: the value head learns to tell preferred answers from others (Bradley and Terry, 1952; 1706.03741)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.base import given, terms
from klimb.objectives.paired import Paired, pairs_of

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms


class BradleyTerry(Paired):
    """loss = -log s(r_w - r_l - margin (score_w - score_l)) + centring (r_w + r_l)^2.

    r is the value at the answer's last token: that of the state which predicts EOS, so that EOS itself is not read.
    Sources end answers with it, those of a log too; of one that source.answer_tokens cuts the last token is not read.
    A pair without known scores has no margin.
    """

    type: Literal["bradley_terry"] = "bradley_terry"
    margin: Annotated[float, Field(ge=0.0)] = 0.0
    """How much of the difference of the known scores the rewards should differ by at least."""
    centring: Annotated[float, Field(ge=0.0)] = 0.01
    """The weight of what keeps the mean reward of a pair near zero."""

    @property
    def critic(self) -> bool:
        return True

    @property
    def reads_value(self) -> bool:
        return False

    @property
    def reads_logp(self) -> bool:
        return False

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        import torch

        pairs, last = pairs_of(batch), batch.lengths.cumsum(0) - 1
        reward = given(now, "value")[last]
        chosen, rejected = reward[pairs.chosen], reward[pairs.rejected]
        known = batch.scored[pairs.chosen] & batch.scored[pairs.rejected]
        apart = (batch.reward[pairs.chosen] - batch.reward[pairs.rejected]).to(reward.dtype) * self.margin
        loss = F.preference.bradley_terry(chosen - rejected, torch.where(known, apart, torch.zeros_like(apart)))
        loss = loss + self.centring * F.preference.centring(chosen, rejected)
        right = torch.where(chosen == rejected, torch.full_like(chosen, 0.5), (chosen > rejected).to(chosen.dtype))
        return terms(batch, pairs.spread(loss), {"preference/accuracy": pairs.spread(right.detach())})
