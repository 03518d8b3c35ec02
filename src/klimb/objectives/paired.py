"""What objectives on preference pairs share: whole-answer log-ratios, pair by pair, and how a pair's loss is spread.

The rows of a pair stand in one group, the chosen one before the rejected one, and a batch is never cut within a group.
A pair's loss stands at each of its tokens, whose weights sum to one over the number of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from klimb import functional as F
from klimb.objectives.base import Objective, given, terms
from klimb.types import Label

if TYPE_CHECKING:
    from torch import Tensor

    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerRow, PerToken, RowMask

Beta = Annotated[float, Field(gt=0.0)]
Noise = Annotated[float, Field(ge=0.0, lt=0.5)]


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of a batch: the rows that are chosen and rejected, and `of[t]`, the pair of a token (or -1)."""

    chosen: Tensor
    rejected: Tensor
    of: Tensor

    def spread(self, values: PerRow) -> PerToken:
        """A pair's value at each token of its two rows, zero at the tokens of other rows. Differentiable."""
        import torch

        inside = self.of >= 0
        return (
            torch.where(inside, values[self.of.clamp(min=0)], values.new_zeros(1))
            if len(values)
            else (values.new_zeros(len(self.of)))
        )


class Paired(Objective):
    """An objective on pairs. A pair whose two rows have equal tokens has no gradient and is trained all the same."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"pairs"})

    def advantage(self, batch: Batch) -> Batch:
        return batch

    def weighting(self, batch: Batch) -> PerToken:
        return F.weighting.row_mean(batch.learn & paired(batch)[batch.row], batch.row, batch.rows)

    def live(self, batch: Batch) -> RowMask:
        return F.segments.any_by(given(batch, "weight") != 0, batch.row, batch.rows)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        pairs, ratio = pairs_of(batch), log_ratio(now, batch)
        gap = ratio[pairs.chosen] - ratio[pairs.rejected]
        loss = self.of_gap(gap, now, batch, pairs)
        return terms(batch, pairs.spread(loss), told(now, batch, pairs, ratio))

    def of_gap(self, gap: PerRow, now: Outputs, batch: Batch, pairs: Pairs) -> PerRow:
        """The loss of each pair, from h_w - h_l."""
        raise NotImplementedError


class Referred(Paired):
    """An objective on pairs that compares with the initial policy."""

    beta: Beta = 0.1
    """How far the policy may go from its reference: the implicit reward is beta log(pi / ref)."""

    @property
    def refers(self) -> bool:
        return True


def paired(batch: Batch) -> RowMask:
    """The rows that belong to a pair. Raises ValueError where the batch has none labelled."""
    label = labels(batch)
    return (label == Label.CHOSEN) | (label == Label.REJECTED)


def labels(batch: Batch) -> Tensor:
    """The label of each row. Raises ValueError where there are none."""
    if batch.label is None:
        raise ValueError("the Batch has no `label`: this objective learns from pairs or labelled answers")
    return batch.label


def pairs_of(batch: Batch) -> Pairs:
    """Who is paired with whom. Raises ValueError where a pair is not whole."""
    import torch

    label = labels(batch)
    chosen, rejected = (torch.nonzero(label == kind).flatten() for kind in (Label.CHOSEN, Label.REJECTED))
    if not torch.equal(batch.group[chosen], batch.group[rejected]):
        raise ValueError("each group of pairs wants as many chosen rows as rejected ones")
    of = torch.full((batch.rows,), -1, dtype=torch.int64, device=label.device)
    index = torch.arange(len(chosen), device=label.device)
    of[chosen], of[rejected] = index, index
    return Pairs(chosen, rejected, of[batch.row])


def summed(values: PerToken, batch: Batch) -> PerRow:
    """The sum over each row's learning tokens. Differentiable."""
    import torch

    return F.segments.sum_by(torch.where(batch.learn, values, torch.zeros_like(values)), batch.row, batch.rows)


def averaged(values: PerToken, batch: Batch) -> PerRow:
    """The mean over each row's learning tokens. Differentiable."""
    return F.segments.mean_by(values, batch.learn, batch.row, batch.rows)


def log_ratio(now: Outputs, batch: Batch) -> PerRow:
    """log pi(y) - log ref(y) of each row, or log pi(y) where there is no reference. Differentiable."""
    return summed(now.logp if batch.ref is None else now.logp - batch.ref, batch)


def told(now: Outputs, batch: Batch, pairs: Pairs, ratio: PerRow) -> dict[str, PerToken]:
    """What is told of pairs: how often the chosen answer's log-ratio is larger (a tie is a half), and the drifts."""
    import torch

    chosen, rejected = ratio[pairs.chosen].detach(), ratio[pairs.rejected].detach()
    logp = summed(now.logp.detach(), batch)
    ahead = torch.where(chosen == rejected, torch.full_like(chosen, 0.5), (chosen > rejected).to(chosen.dtype))
    values = {
        "preference/accuracy": ahead,
        "preference/gap": chosen - rejected,
        "preference/chosen": chosen,
        "preference/rejected": rejected,
        "preference/logp_chosen": logp[pairs.chosen],
        "preference/logp_rejected": logp[pairs.rejected],
    }
    return {name: pairs.spread(value) for name, value in values.items()}
