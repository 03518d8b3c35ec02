"""Losses of other frameworks: a plain function of per-token tensors, and what its gradient is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from klimb.errors import KlimbError
from klimb.proving.match import Match, match
from klimb.proving.policy import Parameters
from klimb.proving.worlds import World

Loss = Callable[..., Tensor]
KNOWN = ("logp", "old_logp", "ref_logp", "advantage", "reward", "mask", "length")
"""What a loss may ask for, by the names of its parameters."""


def asked(loss: Loss) -> list[str]:
    """The parameters that `loss` must be given, of those that are known. Raises KlimbError for any other one."""
    named = inspect.signature(loss).parameters.values()
    names = [p.name for p in named if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    unknown = [p.name for p in named if p.name not in KNOWN and p.default is p.empty and p.name in names]
    what = f"prove {getattr(loss, '__name__', 'the loss')}({', '.join(names)})"
    if unknown:
        raise KlimbError(what, f"no value for {', '.join(unknown)}", f"parameters among {', '.join(KNOWN)}")
    if "logp" not in names:
        raise KlimbError(what, "no parameter `logp`", "a loss of `logp`, the log-probs that carry the gradient")
    return [name for name in names if name in KNOWN]


def loss_gradient(loss: Loss, world: World) -> Parameters:
    """-E[grad loss] over what is drawn, each answer asked for alone with its reward as its advantage.

    A loss that gives a value per token is summed over the answer; one number is taken as it is.
    """
    names = asked(loss)
    theta = world.theta.clone().requires_grad_()
    logp = world.policy.logp(theta)
    total = logp.new_zeros(())
    for prompt in range(world.policy.prompts):
        for answer in range(len(world.policy.answers)):
            at = world.policy.places(answer)
            reward = world.reward[prompt, answer].expand(len(at))
            values: dict[str, Any] = {
                "logp": logp[prompt, at],
                "old_logp": world.old_logp[prompt, at],
                "ref_logp": world.ref_logp[prompt, at],
                "advantage": reward,
                "reward": reward,
                "mask": torch.ones(len(at), dtype=torch.float64),
                "length": len(at),
            }
            total = total + world.likely[prompt, answer] * _called(loss, {name: values[name] for name in names})
    (gradient,) = torch.autograd.grad(-total / world.policy.prompts, theta)
    return gradient


def compare_loss(loss: Loss, world: World) -> Match:
    """Which target's gradient a plain loss has in this world."""
    return match(loss_gradient(loss, world), world)


def _called(loss: Loss, values: dict[str, Any]) -> Tensor:
    what = f"prove {getattr(loss, '__name__', 'the loss')}"
    try:
        value: Any = loss(**values)
    except Exception as error:
        cure = "a loss of 1-D tensors, one value a token"
        raise KlimbError(what, f"{type(error).__name__}: {error}"[:300], cure) from error
    if not isinstance(value, Tensor):
        raise KlimbError(what, f"a {type(value).__name__}", "a loss that returns a tensor: a number or one a token")
    if not bool(torch.isfinite(value).all()):
        raise KlimbError(what, f"a value that is not finite for {len(values['logp'])} tokens", "a finite loss")
    total: Tensor = value.sum() + 0 * values["logp"].sum()  # so that a loss without a gradient has one of zero
    return total
