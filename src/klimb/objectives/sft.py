"""Supervised fine-tuning: the likelihood of given answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from klimb import functional as F
from klimb.objectives.base import Objective, given, terms

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask


class SFT(Objective):
    """loss = -log pi of each token of the given answers, EOS included, prompts excluded."""

    type: Literal["sft"] = "sft"
    average: Literal["token", "row"] = "token"
    """Whether every token counts the same, or every answer."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"answers"})

    def advantage(self, batch: Batch) -> Batch:
        return batch

    def weighting(self, batch: Batch) -> PerToken:
        if self.average == "row":
            return F.weighting.row_mean(batch.learn, batch.row, batch.rows)
        return F.weighting.token_mean(batch.learn)

    def live(self, batch: Batch) -> RowMask:
        return F.segments.any_by(given(batch, "weight") != 0, batch.row, batch.rows)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        return terms(batch, -now.logp, {"policy/nll": -now.logp})
