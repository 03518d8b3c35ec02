"""The expected gradient of a surrogate under the policy that sampled, summed over every batch it can draw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from klimb.batch import Batch, Outputs
from klimb.objectives.base import Objective
from klimb.proving.policy import Parameters
from klimb.proving.worlds import World

FIELDS = ("tokens", "learn", "reward", "scored", "truncated", "advantage", "old", "ref", "weight", "value")


def expected_gradient(objective: Objective, world: World) -> Parameters:
    """The direction in which `objective` climbs on average: -E_old[grad loss].

    Advantages and weights are made batch by batch, as a training step makes them; the losses of all batches, each
    weighed by its probability, are then one sum, since parts add up. A critic's values are given and do not move: what
    its own loss does to a model that it shares is no part of this.
    """
    theta = world.theta.clone().requires_grad_()
    whole = together([_prepared(objective, batch, p, world.given) for p, batch in world.batches])
    at = torch.cat([world.places(drawn) for _, drawn in world.outcomes])
    logp = world.policy.logp(theta).flatten()[at]
    loss = objective.loss(Outputs(logp, torch.zeros_like(logp), whole.value), whole).loss
    (gradient,) = torch.autograd.grad(-loss, theta)
    return gradient


def _prepared(objective: Objective, batch: Batch, probability: float, given: bool) -> Batch:
    fixed = batch.reward[batch.row]
    batch = batch.replace(advantage=fixed, returns=fixed) if given else objective.advantage(batch)
    return batch.replace(weight=exactly(objective.weighting(batch)) * probability)


def exactly(weight: Tensor) -> Tensor:
    """Weights in float64: they are made in float32, and one that is there one over a whole number is so here."""
    wide = weight.to(torch.float64)
    whole = torch.where(wide > 0, 1 / (1 / wide).round(), torch.zeros_like(wide))
    return torch.where((whole - wide).abs() <= 1e-6 * wide, whole, wide)


def together(parts: Sequence[Batch]) -> Batch:
    """Batches one after another, as one batch; each keeps its own rows, groups, advantages and weights."""
    rows = torch.tensor([part.rows for part in parts])
    groups = torch.tensor([len(part.prompts) for part in parts])
    first = torch.cumsum(rows, 0) - rows, torch.cumsum(groups, 0) - groups
    joined = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in (*FIELDS, *(("returns",) if parts[0].returns is not None else ()))
    }
    return parts[0].replace(
        **joined,
        row=torch.cat([part.row + start for part, start in zip(parts, first[0], strict=True)]),
        group=torch.cat([part.group + start for part, start in zip(parts, first[1], strict=True)]),
        prompts=tuple(prompt for part in parts for prompt in part.prompts),
    )
