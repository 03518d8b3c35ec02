"""RPG: the KL-regularised policy gradient in its eight forms (2505.17508, Tables 1, 2, 4; Algorithms 1 and 2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from klimb import functional as F
from klimb.objectives.base import Objective, given, live_rows, movement, spread, terms

if TYPE_CHECKING:
    from klimb.batch import Batch, Outputs, Terms
    from klimb.shapes import PerToken, RowMask

    Formula = Callable[[PerToken, PerToken], PerToken]


class RPG(Objective):
    """The gradient of E_pi[A] - beta D, D a divergence between pi and a reference, from samples of the old policy.

    `differentiable`: loss = clip(w, A) + beta D(w, u), the KL outside the clip, so that it still pulls where w has
    drifted furthest. `reinforce`: loss = -SG(w A + beta K) log pi inside the RPG clip, which removes the KL's pull
    along with the reward's (Algorithm 2). Without clip the two have the same gradient for every sample.
    A = R - mean of the group, not divided by its spread. Departures: Algorithm 1 clips the regularised advantage, and
    with a gradient through it loses exactness once clipped; we keep the KL outside, as the paper's code does. That
    code's REINFORCE loss is never called and branches on the sign of A; we branch on the regularised advantage.
    The proofs are for whole sequences (`level=sequence`); the paper runs `token`, which is exact for one-token answers.
    """

    type: Literal["rpg"] = "rpg"
    divergence: Literal["fkl", "rkl", "ufkl", "urkl"] = "urkl"
    """Forward or reverse KL; with u its unnormalised form: same target, less variance, no pull at the reference."""
    form: Literal["differentiable", "reinforce"] = "reinforce"
    """Through which loss the gradient comes."""
    reference: Literal["old", "initial"] = "old"
    """What pi is held near: the policy that sampled (no extra forward), or the initial one."""
    beta: Annotated[float, Field(ge=0.0)] = 1e-4
    """The weight of the divergence."""
    clip: Literal["rpg", "none"] = "rpg"
    """The dual clip with the three bounds below, or none."""
    eps_low: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """How far below one a ratio may fall, where the sample is pushed down."""
    eps_high: Annotated[float, Field(gt=0.0)] = 0.28
    """How far above one a ratio may rise, where the sample is pushed up."""
    c: Annotated[float, Field(gt=1.0)] = 10.0
    """The largest ratio where the sample is pushed down."""
    level: Literal["token", "sequence"] = "token"
    """Whether a ratio is of one token, or the product over its sequence; the latter weighs rows equally."""

    @property
    def minimum_group(self) -> int:
        return 2

    @property
    def refers(self) -> bool:
        return self.reference == "initial" and self.beta > 0

    @property
    def bounds(self) -> tuple[float, float, float]:
        """(eps_low, eps_high, c); no clip is infinite bounds."""
        return (math.inf, math.inf, math.inf) if self.clip == "none" else (self.eps_low, self.eps_high, self.c)

    def advantage(self, batch: Batch) -> Batch:
        return spread(batch, F.advantage.group_mean(batch.reward, batch.scored, batch.group, len(batch.prompts)))

    def weighting(self, batch: Batch) -> PerToken:
        if self.level == "sequence":
            return F.weighting.row_mean(batch.learn, batch.row, batch.rows)
        return F.weighting.token_mean(batch.learn)

    def live(self, batch: Batch) -> RowMask:
        # A "u" form does not pull where pi is at the reference, as it is on the first pass towards the old policy.
        at_rest = self.reference == "old" and batch.old is None and self.divergence in ("ufkl", "urkl")
        return live_rows(batch, forced=self.beta > 0 and not at_rest)

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        advantage, old = given(batch, "advantage").detach(), batch.old_or(now.logp)
        reference = given(batch, "ref") if self.refers else old
        logp, lw, lu = (self._lift(values, batch) for values in (now.logp, now.logp - old, reference - old))
        value, force = self._divergence()
        ratio, pull = F.importance.ratio(lw), self.beta * force(lw.detach(), lu)
        if self.form == "differentiable":
            signed = advantage
            loss = F.clip.dual(ratio, signed, *self.bounds) + self.beta * value(lw, lu)
        else:
            signed = ratio.detach() * advantage + pull
            loss = F.clip.rpg(signed, ratio, logp, self.bounds)
        live = F.clip.dual_live(ratio, signed, *self.bounds)
        metrics = movement(now.logp - old, ratio, ~live & (signed != 0)) | {"objective/kl_force": pull.abs()}
        if self.refers:
            metrics["policy/kl_ref"] = F.divergence.k3(now.logp - reference)
        return terms(batch, loss, metrics)

    def _divergence(self) -> tuple[Formula, Formula]:
        """The value and the force of the chosen divergence, as functions of (lw, lu)."""
        d = F.divergence
        pairs = {
            "fkl": (d.fkl, d.fkl_force),
            "rkl": (d.rkl, d.rkl_force),
            "ufkl": (d.ufkl, d.ufkl_force),
            "urkl": (d.urkl, d.urkl_force),
        }
        return pairs[self.divergence]

    def _lift(self, values: PerToken, batch: Batch) -> PerToken:
        """Log-probs of tokens, or their sums over the sequence at each of its tokens."""
        if self.level == "token":
            return values
        return F.importance.product(values, batch.learn, batch.row, batch.rows)
