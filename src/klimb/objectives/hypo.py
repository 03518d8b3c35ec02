"""HyPO (2406.01462): DPO on pairs, and the reverse KL to the initial policy on fresh samples of the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.base import terms
from klimb.objectives.paired import Referred, labels, log_ratio, paired, pairs_of, told
from klimb.types import Label

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken


class HyPO(Referred):
    """loss = DPO + kl_weight * mean over samples of sg[r - mean of the others' r] log pi(y), r = log(pi/ref)(y).

    r is the sum over the answer's tokens, EOS included, and is not clipped: clipping it biases the gradient. The second
    term's expected gradient is that of KL(pi||ref); its value says nothing. With several updates from a batch, each
    sample weighs w = pi/old of the whole answer, without gradient. Samples and pairs each have half of the weight;
    their losses are doubled, so that `kl_weight` = 0 is DPO to the last bit.
    """

    type: Literal["hypo"] = "hypo"
    kl_weight: Annotated[float, Field(ge=0.0)] = 0.05
    """The paper's lambda: the weight of KL(pi||ref), in nats a whole answer; 0 = DPO."""
    estimator: Literal["leave_one_out", "reward_to_go"] = "leave_one_out"
    """How the KL's gradient is made: r of the whole answer, or from each token on; either less that of the others."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"pairs", "samples"})

    @property
    def minimum_group(self) -> int:
        return 2

    def weighting(self, batch: Batch) -> PerToken:
        pairs = super().weighting(batch)
        if not self.kl_weight:
            return pairs
        fresh = (labels(batch) == Label.FRESH)[batch.row]
        return 0.5 * pairs + 0.5 * F.weighting.row_mean(batch.learn & fresh, batch.row, batch.rows)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        pairs, ratio, factor = pairs_of(batch), log_ratio(now, batch), 2.0 if self.kl_weight else 1.0
        loss = pairs.spread(F.preference.dpo(ratio[pairs.chosen] - ratio[pairs.rejected], self.beta))
        metrics = told(now, batch, pairs, ratio)
        if self.kl_weight:
            force, sampled = self._force(now, batch)
            loss = loss + self.kl_weight * force
            metrics["policy/kl_ref"] = sampled
        return terms(batch, factor * loss, {name: factor * value for name, value in metrics.items()})

    def _force(self, now: Outputs, batch: Batch) -> tuple[PerToken, PerToken]:
        """What to minimise at each token of the samples, and log(pi/ref) of each sample; zero at the pairs' tokens."""
        import torch

        row, rows = batch.row, batch.rows
        learn = batch.learn & (labels(batch) == Label.FRESH)[row]
        gap = (now.logp - batch.ref).detach() if batch.ref is not None else torch.zeros_like(now.logp.detach())
        moved = F.importance.product((now.logp - batch.old_or(now.logp)).detach(), learn, row, rows)
        own = batch.group + len(batch.prompts) * paired(batch)  # pairs never enter the samples' baseline
        force = F.preference.FORCES[self.estimator](
            torch.where(learn, gap, torch.zeros_like(gap)), learn, row, own, 2 * len(batch.prompts)
        )
        length = F.segments.count_by(learn, row, rows, now.logp.dtype)[row]  # the weights are a mean over the row
        value = F.importance.ratio(moved) * force * length * now.logp
        zero = torch.zeros_like(value)
        return torch.where(learn, value, zero), torch.where(learn, F.segments.sum_over_row(gap, learn, row, rows), zero)
