"""TOPR: tapered off-policy REINFORCE, which bounds the weights of good and of bad answers apart (2503.14286)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.errors import KlimbError
from klimb.objectives.base import given, lifted, live_rows, movement, spread
from klimb.objectives.penalty import Penalised

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask

Bounds = tuple[Annotated[float, Field(ge=0.0)], Annotated[float, Field(ge=0.0)]]


class TOPR(Penalised):
    """loss = -SG([w]) A log pi; [w] = w held within `good` where A >= 0, within `bad` where A < 0; A = R - group mean.

    By default good answers weigh one, as in supervised learning, and bad ones at most one: what the policy no longer
    says is not pushed down further. Made for logs of other policies. Departures: the paper takes off a constant
    from rewards of 1 and -1; here the group's mean is taken off, and the sign is that of what is left.
    """

    type: Literal["topr"] = "topr"
    good: Bounds = (1.0, 1.0)
    """The least and the largest weight of an answer that is pushed up (a+ and b+ of the paper)."""
    bad: Bounds = (0.0, 1.0)
    """The least and the largest weight of an answer that is pushed down (a- and b-)."""
    level: Literal["token", "sequence"] = "sequence"
    """Whether a ratio is of one token, or the product over its sequence, as in the paper."""

    @property
    def minimum_group(self) -> int:
        return 2

    def faults(self) -> list[KlimbError]:
        """The least is not more than the largest."""
        wrong = [(name, pair) for name, pair in (("good", self.good), ("bad", self.bad)) if pair[0] > pair[1]]
        return super().faults() + [
            KlimbError(f"{name}={list(pair)}", "a least weight above the largest", f"{name}={sorted(pair)}")
            for name, pair in wrong
        ]

    def advantage(self, batch: Batch) -> Batch:
        return spread(
            batch, F.advantage.group_mean(self.rewarded(batch), batch.scored, batch.group, len(batch.prompts))
        )

    def weighting(self, batch: Batch) -> PerToken:
        if self.level == "sequence":
            return F.weighting.row_mean(batch.learn, batch.row, batch.rows)
        return F.weighting.token_mean(batch.learn)

    def live(self, batch: Batch) -> RowMask:
        return live_rows(batch, forced=self.forced)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        advantage = given(batch, "advantage")
        log_ratio = now.logp - batch.old_or(now.logp)

        lift = partial(lifted, level=self.level)
        ratio = F.importance.ratio(lift(log_ratio, batch))
        held = F.clip.tapered(ratio, advantage, self.good, self.bad)
        loss = -held * advantage * lift(now.logp, batch)
        idle = (held == 0) & (advantage != 0)  # a weight of another size is no lost gradient
        return self.finish(now, batch, loss, movement(log_ratio, ratio, idle), lift)
