"""A KL to a reference, for any policy-gradient objective: in its reward or in its loss, by which estimator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.config import Settings
from klimb.errors import KlimbError
from klimb.objectives.base import Objective, beside, given, of_kl, terms
from klimb.objectives.carried import COEFFICIENT, Carried, Control, Refresh

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerRow, PerToken


class KL(Settings):
    """How the KL to the reference enters; its weight is the objective's `beta`.

    What each choice really descends on (x = log(pi/ref), w = pi/old): k1 in the reward, k2 in the loss, `attached` k1
    or k3: the reverse KL(pi||ref). k3, plain on-policy or `detached`: the forward KL(ref||pi). Others: of neither.
    """

    where: Literal["loss", "reward"] = "loss"
    """In the loss, beside the clip; or off the reward, at the policy that sampled, so with ratio and clip."""
    estimator: Literal["k1", "k2", "k3"] = "k3"
    """x, x^2 / 2, or exp(-x) - 1 + x, of each token's log(pi/ref)."""
    weighted: Literal["none", "attached", "detached"] = "none"
    """In the loss: not weighted by w; by w with its gradient; by w as a constant."""
    control: Control = Control()
    """Steers the weight towards a KL."""
    refresh: Refresh = Refresh()
    """When the reference, at first the initial policy, becomes the policy as it is."""

    def term(self, gap: PerToken, log_ratio: PerToken) -> PerToken:
        """The estimate of each token from log(pi/ref) and log(pi/old), weighted as the settings say."""
        estimate = F.divergence.ESTIMATORS[self.estimator](gap)
        if self.weighted == "none":
            return estimate
        weigh = F.divergence.attached if self.weighted == "attached" else F.divergence.detached
        return weigh(estimate, log_ratio)

    def faults(self) -> list[KlimbError]:
        """Weights belong to the loss: what is in the reward has the ratio already."""
        if self.where == "loss" or self.weighted == "none":
            return []
        asked = f"weigh the KL by its own importance weight (kl.weighted={self.weighted})"
        found = "kl.where=reward, where it is weighted by the objective's ratio together with the reward"
        return [KlimbError(asked, found, "kl.weighted=none, or kl.where=loss")]


class Penalised(Objective):
    """A policy objective with room for a KL to a reference, weighted by `beta`."""

    beta: Annotated[float, Field(ge=0.0)] = 0.0
    """The weight of the KL to the reference policy; 0 = none, and no reference is run."""
    kl: KL = KL()
    """Where and how that KL enters."""

    @property
    def refers(self) -> bool:
        return self.beta > 0

    @property
    def reads_old(self) -> bool:
        return self.refers and self.kl.where == "reward"

    @property
    def kl_place(self) -> Literal["none", "loss", "clip", "reward"]:
        return self.kl.where if self.refers else "none"

    @property
    def forced(self) -> bool:
        """Whether a row without an advantage has a gradient all the same."""
        return self.kl_place == "loss"

    @property
    def carried(self) -> Carried:
        return Carried.of(self.beta, self.kl.control, self.kl.refresh) if self.refers else Carried()

    def faults(self) -> list[KlimbError]:
        """A coefficient of zero cannot be steered, and a reference without one is never run."""
        idle = {"control.target": self.kl.control.target > 0, "refresh": self.kl.refresh.active}
        return [
            KlimbError(
                f"objective.kl.{name} is set", "objective.beta=0: there is no KL", "objective.beta=0.01, for instance"
            )
            for name, asked in idle.items()
            if asked and not self.refers
        ]

    def rewarded(self, batch: Batch) -> PerRow:
        """R_i, less beta times the estimates of the whole answer where the KL is in the reward."""
        return (
            batch.reward - F.segments.sum_by(self.charge(batch), batch.row, batch.rows)
            if self.reads_old
            else batch.reward
        )

    def charged(self, batch: Batch, advantage: PerToken) -> PerToken:
        """A_t less beta times the estimates from t on, where the KL is in the reward of each token (gamma = 1)."""
        if not self.reads_old:
            return advantage
        return advantage - F.segments.sum_to_go(self.charge(batch), batch.learn, batch.row, batch.rows)

    def finish(
        self,
        now: Outputs,
        batch: Batch,
        loss: PerToken,
        metrics: Mapping[str, PerToken],
        lift: Callable[[PerToken, Batch], PerToken] = lambda values, batch: values,
    ) -> Terms:
        """The loss with its KL, as sums; `lift` takes log-ratios of tokens to what the objective's ratio is of.

        Where the KL has weights of its own it is a sum of its own, over all tokens that could learn.
        """
        if not self.refers:
            return terms(batch, loss, metrics)
        gap, whole = now.logp - given(batch, "ref"), of_kl(batch)
        told = {"policy/kl_ref": F.divergence.k3(gap)}
        if self.kl.where == "reward":
            return terms(batch, loss, {**metrics, **told})
        pull = self.coefficient(batch) * self.kl.term(lift(gap, whole), lift(now.logp - batch.old_or(now.logp), whole))
        if whole is batch:
            return terms(batch, loss + pull, {**metrics, **told})
        return beside(terms(batch, loss, metrics), terms(whole, pull, told))

    def coefficient(self, batch: Batch) -> float:
        """The KL's weight in this step."""
        return batch.carried.get(COEFFICIENT, self.beta)

    def charge(self, batch: Batch) -> PerToken:
        """beta times the estimate of log(old/ref) of each learning token where the KL is in the reward, else zero."""
        import torch

        if not self.reads_old:
            return torch.zeros_like(batch.learn, dtype=torch.float32)
        estimate = F.divergence.ESTIMATORS[self.kl.estimator](given(batch, "old") - given(batch, "ref"))
        return (self.coefficient(batch) * estimate).masked_fill(~batch.learn, 0.0)
