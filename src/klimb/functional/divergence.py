"""Divergences between policies, from log-ratios of drawn tokens or from whole distributions.

In the four divergences the sample is drawn by `old`: lw = log(pi / old), lu = log(ref / old), w = exp lw, u = exp lu
(both clamped as in `importance.ratio`). With ref = old, lu = 0 and u = 1, and they are the formulas of RPG (2505.17508,
Tables 1, 2, 4); the general case weighs the reference's part by u. Each has a *value*, whose mean under old is the
divergence and whose gradient through lw is its gradient, and a *force* -d value / d lw, the K of Algorithm 2:
E_old[(w A + beta K) grad log pi] is the exact gradient of E_pi[A] - beta D. Value and force agree for every sample
with |lw| < 20. The "u" forms add the difference of masses, zero for two normalised distributions: less variance,
and no force at w = u; they scale with the mass of an unnormalised reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

from klimb.functional.importance import LIMIT, ratio
from klimb.functional.logprobs import log_softmax
from klimb.shapes import Logits, PerToken


def k1(log_ratio: PerToken) -> PerToken:
    """log(p/q), samples from p: unbiased for KL(p||q), any sign (Schulman, 2020). As a loss it is noise."""
    return log_ratio


def k2(log_ratio: PerToken) -> PerToken:
    """(log p/q)^2 / 2, samples from p: biased for KL(p||q); as a loss on-policy in p it has exactly its gradient."""
    return log_ratio.square() / 2


def k3(log_ratio: PerToken) -> PerToken:
    """q/p - 1 - log q/p, samples from p: unbiased for KL(p||q), never negative (Schulman, 2020).

    As an unweighted loss on-policy in p it has the gradient of the *forward* KL(q||p); off-policy of neither.
    """
    return torch.expm1((-log_ratio).clamp(-LIMIT, LIMIT)) + log_ratio


def attached(estimate: PerToken, lw: PerToken) -> PerToken:
    """w k, samples from old, w = pi/old in the gradient (RPG, 2505.17508, App. D).

    With k1 or k3 of log(pi/ref): unbiased for the reverse KL(pi||ref), and so is its gradient. With k2: of neither.
    """
    return ratio(lw) * estimate


def detached(estimate: PerToken, lw: PerToken) -> PerToken:
    """SG(w) k, samples from old: as a loss, the estimator's on-policy gradient, made right off-policy.

    Of log(pi/ref): with k2 the reverse KL(pi||ref)'s, with k3 the forward KL(ref||pi)'s, with k1 noise around zero.
    """
    return ratio(lw).detach() * estimate


def exact(p: Logits, q: Logits) -> PerToken:
    """KL(p||q) = sum_v p log(p/q) in nats from logits of the two, float32 or wider. Differentiable in both."""
    logp, logq = log_softmax(p), log_softmax(q)
    probability = logp.exp()
    gap = torch.where(probability > 0, logp - logq, torch.zeros_like(logp))
    return (probability * gap).sum(-1)


def fkl(lw: PerToken, lu: PerToken) -> PerToken:
    """KL(ref||pi) = E_old[u log(ref/pi)]; RPG Table 1, FKL: -log pi. Mass-covering."""
    return ratio(lu) * (lu - lw)


def fkl_force(lw: PerToken, lu: PerToken) -> PerToken:
    """K = u."""
    return ratio(lu).expand_as(lw)


def rkl(lw: PerToken, lu: PerToken) -> PerToken:
    """KL(pi||ref) = E_old[w log(pi/ref)]; RPG Table 1, RKL: w log w. Mode-seeking."""
    return ratio(lw) * (lw - lu)


def rkl_force(lw: PerToken, lu: PerToken) -> PerToken:
    """K = -w (log(pi/ref) + 1)."""
    return -ratio(lw) * (lw - lu + 1)


def ufkl(lw: PerToken, lu: PerToken) -> PerToken:
    """UKL(ref||pi) = E_old[u log(ref/pi) + w - u]; RPG Table 1, UFKL: w - log w - 1, which is k3 of old to pi."""
    return fkl(lw, lu) + ratio(lw) - ratio(lu)


def ufkl_force(lw: PerToken, lu: PerToken) -> PerToken:
    """K = -(w - u)."""
    return ratio(lu) - ratio(lw)


def urkl(lw: PerToken, lu: PerToken) -> PerToken:
    """UKL(pi||ref) = E_old[w log(pi/ref) + u - w]; RPG Table 1, URKL: w log w - w, plus the constant one."""
    return rkl(lw, lu) + ratio(lu) - ratio(lw)


def urkl_force(lw: PerToken, lu: PerToken) -> PerToken:
    """K = -w log(pi/ref)."""
    return -ratio(lw) * (lw - lu)


def jeffreys(lw: PerToken, lu: PerToken) -> PerToken:
    """KL(ref||pi) + KL(pi||ref), the symmetrised divergence; the mass terms of the two "u" forms cancel.

    RPG's code calls half of it "js"; it is not in the paper.
    """
    return fkl(lw, lu) + rkl(lw, lu)


def jeffreys_force(lw: PerToken, lu: PerToken) -> PerToken:
    """K = u - w (log(pi/ref) + 1): zero at w = u, like those of the "u" forms."""
    return fkl_force(lw, lu) + rkl_force(lw, lu)


Formula = Callable[[PerToken, PerToken], PerToken]

FORMS: Mapping[str, tuple[Formula, Formula]] = MappingProxyType(
    {
        "fkl": (fkl, fkl_force),
        "rkl": (rkl, rkl_force),
        "ufkl": (ufkl, ufkl_force),
        "urkl": (urkl, urkl_force),
        "jeffreys": (jeffreys, jeffreys_force),
    }
)
"""The value and the force of each divergence, by its name in the settings."""

ESTIMATORS: Mapping[str, Callable[[PerToken], PerToken]] = MappingProxyType({"k1": k1, "k2": k2, "k3": k3})
"""Schulman's three estimators, by name."""
