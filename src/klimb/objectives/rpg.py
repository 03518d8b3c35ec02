"""RPG: the KL-regularised policy gradient in all its forms (2505.17508, Tables 1, 2, 4; Algorithms 1 and 2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.errors import KlimbError
from klimb.objectives.base import Objective, beside, given, lifted, live_rows, movement, of_kl, spread, terms
from klimb.objectives.carried import COEFFICIENT, Carried, Control, Refresh

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask, TokenMask

    Gaps = tuple[PerToken, PerToken, PerToken]  # log pi, log(pi / old) and log(ref / old) of each token

AT_REST = ("ufkl", "urkl", "jeffreys")
"""The divergences that do not pull where pi is at the reference."""


class RPG(Objective):
    """The gradient of E_pi[A] - beta D, D a divergence between pi and a reference, from samples of the old policy.

    `differentiable`: loss = clip(w, A) + beta D(w, u). `reinforce`: loss = -SG(w A + beta K) log pi where live. Without
    clip the two have the same gradient for every sample. With the KL inside the clip it is part of a regularised
    advantage A' = A + beta K / w, held constant, and what is clipped loses the KL's pull too; outside, it still pulls
    where w has drifted furthest. A = R - mean of the group, not divided by its spread.
    Departures: Algorithm 1 has a gradient through A', which loses exactness once clipped; ours has none. The REINFORCE
    loss of the paper's code is never called and branches on the sign of A, as `clip=dual` does.
    The proofs are for whole sequences (`level=sequence`); the paper runs `token`, which is exact for one-token answers.
    """

    type: Literal["rpg"] = "rpg"
    divergence: Literal["fkl", "rkl", "ufkl", "urkl", "jeffreys"] = "urkl"
    """Forward or reverse KL, with u unnormalised (same target, less variance, no pull at rest); jeffreys: their sum."""
    form: Literal["differentiable", "reinforce"] = "reinforce"
    """Through which loss the gradient comes."""
    reference: Literal["old", "initial", "refreshed"] = "old"
    """What pi is held near: the policy that sampled (no extra forward), the initial one, or one of an earlier step."""
    refresh: Refresh = Refresh()
    """When a `refreshed` reference becomes the policy as it is."""
    beta: Annotated[float, Field(ge=0.0)] = 1e-4
    """The weight of the divergence."""
    control: Control = Control()
    """Steers that weight towards a KL to the reference."""
    clip: Literal["rpg", "dual", "cispo", "none"] = "rpg"
    """rpg: dual clip by the sign of A'; dual: by the sign of A (the same where the KL is outside); cispo: the weight is
    capped and no gradient is lost."""
    kl: Literal["by_form", "inside", "outside"] = "by_form"
    """Where the KL is: inside the clip (Algorithms 1 and 2) or outside; by_form: inside for `reinforce` alone."""
    eps_low: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """How far below one a ratio may fall, where the sample is pushed down."""
    eps_high: Annotated[float, Field(gt=0.0)] = 0.28
    """How far above one a ratio may rise, where the sample is pushed up."""
    c: Annotated[float, Field(gt=1.0)] = 10.0
    """The largest ratio where the sample is pushed down."""
    cap: Annotated[float, Field(gt=1.0)] = 5.0
    """Clip `cispo`: the largest weight of a token."""
    level: Literal["token", "sequence"] = "token"
    """Whether a ratio is of one token, or the product over its sequence; the latter weighs rows equally."""

    @property
    def minimum_group(self) -> int:
        return 2

    @property
    def refers(self) -> bool:
        return self.reference != "old" and self.beta > 0

    @property
    def carried(self) -> Carried:
        return Carried.of(self.beta, self.control, self.refresh) if self.refers else Carried()

    @property
    def inside(self) -> bool:
        """Whether the KL is inside the clip, if there is one: without, its term stands beside the reward's."""
        if self.clip == "none":
            return False
        return self.form == "reinforce" if self.kl == "by_form" else self.kl == "inside"

    @property
    def kl_place(self) -> Literal["none", "loss", "clip", "reward"]:
        if not self.beta:
            return "none"
        return "clip" if self.inside else "loss"

    def faults(self) -> list[KlimbError]:
        """What makes no sense together."""
        none, constant = self.clip == "none", self.clip == "cispo" and self.form == "differentiable"
        idle = f"reference={self.reference} beta={self.beta:g}, by which no KL to a reference is measured"
        checks = [
            (none and self.kl != "by_form", f"kl={self.kl}", "clip=none", "kl=by_form, or clip=rpg"),
            (constant and self.inside, "clip=cispo kl=inside",
             "form=differentiable, of which nothing is left when a constant weighs the whole",
             "form=reinforce, or kl=outside"),
            (self.reference == "refreshed" and not self.refresh.active, "reference=refreshed",
             "neither refresh.every nor refresh.kappa says when", "refresh.every=10, or reference=initial"),
            (self.refresh.active and self.reference != "refreshed", "a refresh of the reference",
             f"reference={self.reference}", "reference=refreshed, or leave refresh out"),
            (self.control.target > 0 and not self.refers, f"control.target={self.control.target:g}", idle,
             "reference=initial and a beta above 0"),
        ]  # fmt: skip
        return [KlimbError(asked, found, cure) for wrong, asked, found, cure in checks if wrong]

    def advantage(self, batch: Batch) -> Batch:
        return spread(batch, F.advantage.group_mean(batch.reward, batch.scored, batch.group, len(batch.prompts)))

    def weighting(self, batch: Batch) -> PerToken:
        if self.level == "sequence":
            return F.weighting.row_mean(batch.learn, batch.row, batch.rows)
        return F.weighting.token_mean(batch.learn)

    def live(self, batch: Batch) -> RowMask:
        at_rest = self.reference == "old" and batch.old is None and self.divergence in AT_REST
        return live_rows(batch, forced=self.beta > 0 and not at_rest)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        old = batch.old_or(now.logp)
        reference = given(batch, "ref") if self.refers else old
        gaps, whole = (now.logp, now.logp - old, reference - old), of_kl(batch)
        pull, term = self._kl(gaps, whole)
        told = {"objective/kl_force": pull.abs()}
        if self.refers:
            told["policy/kl_ref"] = F.divergence.k3(now.logp - reference)
        loss, metrics = self._climb(gaps, batch, pull if self.inside else 0.0)
        if self.inside:
            return terms(batch, loss, metrics | told)
        if whole is batch:
            return terms(batch, loss + term, metrics | told)
        return beside(terms(batch, loss, metrics), terms(whole, term, told))

    def _kl(self, gaps: Gaps, batch: Batch) -> tuple[PerToken, PerToken]:
        """beta K of each token, and the term whose gradient is that of beta D, for a KL outside the clip."""
        logp, lw, lu = (lifted(values, batch, self.level) for values in gaps)
        value, force = F.divergence.FORMS[self.divergence]
        beta = batch.carried.get(COEFFICIENT, self.beta)
        pull = beta * force(lw.detach(), lu)
        return pull, beta * value(lw, lu) if self.form == "differentiable" else -pull * logp

    def _climb(self, gaps: Gaps, batch: Batch, pull: PerToken | float) -> tuple[PerToken, dict[str, PerToken]]:
        """The loss of A, with the `pull` that is inside the clip, and how far the policy has moved."""
        advantage = given(batch, "advantage").detach()
        logp, lw = (lifted(values, batch, self.level) for values in gaps[:2])
        ratio = F.importance.ratio(lw)
        weight = ratio.detach()
        regularised = advantage + pull / weight  # A'
        pushed = weight * advantage + pull  # what multiplies grad log pi
        sign = advantage if self.clip == "dual" else pushed
        loss, clipped = self._clipped(regularised, pushed, ratio, logp, sign)
        return loss, movement(gaps[1], ratio, clipped)

    def _clipped(
        self, regularised: PerToken, pushed: PerToken, ratio: PerToken, logp: PerToken, sign: PerToken
    ) -> tuple[PerToken, TokenMask]:
        """The loss whose gradient is -pushed grad log pi (pushed = w A') where live, and where the clip cuts."""
        if self.clip == "cispo":
            return F.clip.cispo(ratio, regularised, logp, self.cap), (ratio > self.cap) & (pushed != 0)
        never = (math.inf, math.inf, math.inf)
        bounds = never if self.clip == "none" else (self.eps_low, self.eps_high, self.c)
        cut = ~F.clip.dual_live(ratio, sign, *bounds) & (pushed != 0)
        if self.form == "reinforce":
            return F.clip.score_by(pushed, ratio, logp, sign, bounds), cut
        return F.clip.dual_by(ratio, regularised, sign, bounds), cut
