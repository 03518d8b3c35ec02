"""Clips: what a token's surrogate is when its ratio has left the trusted interval.

Each clip is a *live* mask (where the gradient flows) and a value that does not move where it is not live. The
masks are strict inequalities, so at a bound itself there is no gradient; the values are continuous there.
"""

from __future__ import annotations

import math

import torch

from klimb.shapes import PerToken, TokenMask


def none(ratio: PerToken, advantage: PerToken) -> PerToken:
    """-w A: the importance-weighted policy gradient's surrogate. Gradient -w A s, with s = grad log pi."""
    return -ratio * advantage


def dual_live(ratio: PerToken, force: PerToken, eps_low: float, eps_high: float, c: float) -> TokenMask:
    """Where a dual clip lets the gradient through, by the sign of `force`.

    force >= 0: w < 1 + eps_high.  force < 0: 1 - eps_low < w < c.
    With force = A it is the dual clip (1912.09729, Eq. 3); with force = the regularised advantage, or w times
    it, it is the RPG clip (2505.17508, Algorithm 2), which removes the KL's pull along with the reward's.
    """
    below = ratio < 1 + eps_high
    between = (ratio > 1 - eps_low) & (ratio < c)
    return torch.where(force >= 0, below, between)


def dual(ratio: PerToken, advantage: PerToken, eps_low: float, eps_high: float, c: float) -> PerToken:
    """Dual clip (1912.09729, Eq. 3): A >= 0: -min(w, 1 + eps_high) A.  A < 0: -clip(w, 1 - eps_low, c) A.

    The advantage is taken as a constant.
    """
    return dual_by(ratio, advantage, advantage, (eps_low, eps_high, c))


def dual_by(ratio: PerToken, advantage: PerToken, force: PerToken, bounds: tuple[float, float, float]) -> PerToken:
    """The dual clip of -w A whose branch is chosen by the sign of `force` instead of A's; both are constants."""
    fixed, (eps_low, eps_high, c) = advantage.detach(), bounds
    bound = torch.where(force >= 0, ratio.clamp(max=1 + eps_high), ratio.clamp(1 - eps_low, c)).detach()
    return none(torch.where(dual_live(ratio, force, *bounds), ratio, bound), fixed)


def ppo_live(ratio: PerToken, advantage: PerToken, eps_low: float, eps_high: float) -> TokenMask:
    """Where the PPO clip lets the gradient through: A >= 0: w < 1 + eps_high.  A < 0: w > 1 - eps_low."""
    return dual_live(ratio, advantage, eps_low, eps_high, math.inf)


def ppo(ratio: PerToken, advantage: PerToken, eps_low: float, eps_high: float) -> PerToken:
    """PPO's clipped surrogate max(-w A, -clip(w, 1 - eps_low, 1 + eps_high) A) (1707.06347, Eq. 7).

    Two different eps are DAPO's clip-higher (2503.14476, Eq. 10).
    """
    return dual(ratio, advantage, eps_low, eps_high, math.inf)


def rpg(weight: PerToken, ratio: PerToken, logp: PerToken, bounds: tuple[float, float, float]) -> PerToken:
    """RPG-style clip of a REINFORCE-style loss (2505.17508, Algorithm 2): -SG(weight) log pi where live, else 0.

    `weight` is w A + beta K, which has the sign of the regularised advantage; `bounds` = (eps_low, eps_high, c).
    Departure: where clipped the value is zero, not the paper's constant; the gradient is the same.
    """
    return score_by(weight, ratio, logp, weight.detach(), bounds)


def score_by(
    weight: PerToken, ratio: PerToken, logp: PerToken, force: PerToken, bounds: tuple[float, float, float]
) -> PerToken:
    """-SG(weight) log pi where a dual clip that branches on the sign of `force` lets it through, else 0.

    With force = A while the weight holds the KL's pull too: what the "clip_ppo" option of RPG's code computes.
    """
    live = dual_live(ratio, force, *bounds)
    return torch.where(live, -weight.detach() * logp, torch.zeros_like(logp))


def cispo(ratio: PerToken, advantage: PerToken, logp: PerToken, cap: float) -> PerToken:
    """-SG(min(w, cap)) A log pi: clipped tokens keep their gradient with a capped weight (2506.13585, Eq. 4).

    `cap` is the bound on the ratio itself, not its distance from one. No lower bound, as the paper runs it.
    """
    return -ratio.clamp(max=cap).detach() * advantage * logp


def tapered(ratio: PerToken, advantage: PerToken, good: tuple[float, float], bad: tuple[float, float]) -> PerToken:
    """[w] held within `good` where A >= 0 and within `bad` where A < 0; detached (TOPR, 2503.14286, Eq. 8)."""
    fixed = ratio.detach()
    return torch.where(advantage >= 0, fixed.clamp(*good), fixed.clamp(*bad))
