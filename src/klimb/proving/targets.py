"""What can be climbed, and the exact gradient of each, from the definitions alone: sums over every answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from klimb.proving.policy import Parameters, Tokens
from klimb.proving.worlds import World

Divergence = Literal["", "forward", "reverse", "Jeffreys", "frozen"]
Reference = Literal["old", "ref"]


@dataclass(frozen=True, slots=True)
class Target:
    """`reward` times E_pi[R], less `beta` times a divergence, both averaged over the prompts.

    forward = KL(reference||pi), reverse = KL(pi||reference), Jeffreys = their sum, frozen = E_pi[log(old/reference)],
    of whole answers.
    `per_token`: the sum over an answer's tokens of the next-token divergence, at the prefixes that the sampler visits,
    which are taken as given.
    """

    divergence: Divergence = ""
    reference: Reference = "ref"
    beta: float = 1.0
    per_token: bool = False
    reward: float = 1.0

    @property
    def name(self) -> str:
        """The target in words, such as `reward - 0.1 reverse KL to ref`."""
        reward = f"{_factor(self.reward)}reward" if self.reward else ""
        if not self.divergence or self.beta == 0:
            return reward or "nothing"
        sign = "-" if self.beta > 0 else "+"
        scope = " per token" if self.per_token else ""
        kl = f"{_factor(abs(self.beta))}{self.divergence} KL to {self.reference}{scope}"
        return f"{reward} {sign} {kl}" if reward else f"{sign}{kl}"


def _factor(value: float) -> str:
    """The factor before a word, to four digits; nothing for one."""
    text = f"{value:.4g} "
    return "" if text == "1 " else text


def exact_gradient(target: Target, world: World) -> Parameters:
    """The gradient of `target` in the parameters of the current policy: the direction in which it is climbed."""
    theta = world.theta.clone().requires_grad_()
    value = _value(target, world, theta) / world.policy.prompts
    (gradient,) = torch.autograd.grad(value, theta)
    return gradient


def _value(target: Target, world: World, theta: Parameters) -> Tensor:
    logp = world.policy.logp(theta)
    whole = world.policy.whole(logp)
    value = target.reward * (whole.exp() * world.reward).sum()
    if not target.divergence:
        return value
    ref = world.old_logp if target.reference == "old" else world.ref_logp
    if target.per_token:
        return value - target.beta * _per_token(target, world, theta, logp)
    wide = world.policy.whole(ref)
    if target.divergence == "frozen":
        return value - target.beta * (whole.exp() * (world.policy.whole(world.old_logp) - wide)).sum()
    return value - target.beta * _between(target.divergence, whole, wide).sum()


def _between(divergence: Divergence, now: Tensor, ref: Tensor) -> Tensor:
    """What each outcome, or word, adds to the divergence of two distributions, from their log-probs."""
    forward, reverse = ref.exp() * (ref - now), now.exp() * (now - ref)
    return {"forward": forward, "reverse": reverse, "Jeffreys": forward + reverse}[divergence]


def _per_token(target: Target, world: World, theta: Parameters, logp: Tokens) -> Tensor:
    """sum over prefixes of the sampler's probability of passing there, times the divergence of the next word."""
    now = theta.log_softmax(-1)
    ref = (world.old if target.reference == "old" else world.ref).log_softmax(-1)
    gap = _between(target.divergence, now, ref)
    visits = torch.zeros_like(world.theta[..., 0]).index_add(1, world.policy.at, world.likely[:, world.policy.row])
    return (visits * gap.sum(-1)).sum()
