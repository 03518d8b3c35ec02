"""HyPO (2406.01462): DPO on pairs, and the reverse KL to the initial policy on fresh samples of the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.base import given, terms
from klimb.objectives.paired import Referred, labels, log_ratio, paired, pairs_of, told
from klimb.types import Label

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken


class HyPO(Referred):
    """loss = DPO + kl_weight * mean over samples of sg[r - mean of the others' r] log pi(y), r = log(pi/ref)(y).

    r is the sum over the answer's tokens, EOS included, and is not clipped: clipping it biases the gradient. The second
    term's expected gradient is that of KL(pi||ref), whichever `estimator` makes it; its value says nothing. With
    several updates from a batch, each sample weighs w = pi/old of the whole answer, without gradient. Samples and pairs
    each have half of the weight; their losses are doubled, so that `kl_weight` = 0 is DPO to the last bit.

    `exact` puts sum_t k_t + sg[A_t] log pi(y_t|y_<t) in place of it, with k_t = KL(pi(.|y_<t)||ref(.|y_<t)) of whole
    next-token distributions, differentiable, and A_t = the sum of the later k less its mean over the others at that
    place (`functional.preference.ahead_force`). No drawn token's luck is in k_t, only in which prefixes are visited.
    """

    type: Literal["hypo"] = "hypo"
    kl_weight: Annotated[float, Field(ge=0.0)] = 0.05
    """The paper's lambda: the weight of KL(pi||ref), in nats a whole answer; 0 = DPO."""
    estimator: Literal["leave_one_out", "reward_to_go", "exact"] = "leave_one_out"
    """How the KL's gradient is made: r of the whole answer, or from each token on; or the exact KL of every next token
    from whole distributions: the least noise, for a second look at the output layer. Each less that of the others."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"pairs", "samples"})

    @property
    def minimum_group(self) -> int:
        return 2

    @property
    def reads_divergence(self) -> bool:
        return self.estimator == "exact" and self.kl_weight > 0

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
        """What to minimise at each token of the samples, and the KL that each sample shows; zero at the pairs' tokens.

        That is log(pi/ref) of the answer, or the sum of the exact KLs along it.
        """
        import torch

        row, rows = batch.row, batch.rows
        learn = batch.learn & (labels(batch) == Label.FRESH)[row]
        exact = given(now, "divergence") if self.reads_divergence else None
        gap = (self._gap(now, batch) if exact is None else exact).detach()
        moved = F.importance.product((now.logp - batch.old_or(now.logp)).detach(), learn, row, rows)
        own = batch.group + len(batch.prompts) * paired(batch)  # pairs never enter the samples' baseline
        force = F.preference.FORCES[self.estimator](
            torch.where(learn, gap, torch.zeros_like(gap)), learn, row, own, 2 * len(batch.prompts)
        )
        length = F.segments.count_by(learn, row, rows, now.logp.dtype)[row]  # the weights are a mean over the row
        value = F.importance.ratio(moved) * force * length * now.logp
        if exact is not None:
            value = value + F.importance.ratio(moved) * length * exact
        zero = torch.zeros_like(value)
        return torch.where(learn, value, zero), torch.where(learn, F.segments.sum_over_row(gap, learn, row, rows), zero)

    @staticmethod
    def _gap(now: Outputs, batch: Batch) -> PerToken:
        import torch

        return torch.zeros_like(now.logp) if batch.ref is None else now.logp - batch.ref
