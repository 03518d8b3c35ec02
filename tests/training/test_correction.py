"""Importance weights over the sampler: the KL in the loss needs them as much as the reward does."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from klimb.batch import Batch, Outputs
from klimb.objectives import Reinforce
from klimb.objectives.penalty import KL
from klimb.proving import Target, World, exact_gradient
from klimb.proving.expected import together
from klimb.training.base import Truncate
from klimb.training.weighing import corrected
from tests.objectives.kit import outputs
from tests.objectives.test_exact_gradients import BETA, SEQUENCES, alone, off_by

EXACT = Truncate(cap=1e12, level="sequence")
"""Weights of whole answers, which nothing cuts."""


def drawn(world: World) -> Batch:
    """Every answer once, weighing its probability under a sampler that is not the trainer's old policy."""
    other = replace(world, old=world.old + SEQUENCES.draw(8, 0.7))
    parts = [
        batch.replace(
            advantage=batch.reward[batch.row],
            weight=torch.full((len(batch.row),), probability / len(batch.row), dtype=torch.float64),
            sampler=batch.old,
            old=world.old_logp.flatten()[world.places(rows)],
        )
        for (probability, batch), (_, rows) in zip(other.batches, other.outcomes, strict=True)
    ]
    joined = together(parts)
    return joined.replace(sampler=torch.cat([part.sampler for part in parts]))  # type: ignore[misc]


def climbed(world: World, objective: Reinforce, whole: Batch, *, bare_kl: bool = False) -> Tensor:
    """The direction of the corrected loss; `bare_kl` leaves the sampler's weight off the KL alone."""
    theta = world.theta.clone().requires_grad_()
    now = outputs(SEQUENCES.logp(theta).flatten())
    fair = corrected(whole, now, EXACT, comparable=True)
    if bare_kl:
        fair = fair.replace(able=whole.learn, kl_weight=whole.weight)
    (gradient,) = torch.autograd.grad(-objective.loss(now, fair).loss, theta)
    return gradient


WAYS: list[tuple[dict[str, Any], str]] = [
    ({"estimator": "k3", "weighted": "attached"}, "reverse"),
    ({"estimator": "k2", "weighted": "detached"}, "reverse"),
    ({"estimator": "k3", "weighted": "detached"}, "forward"),
]


@pytest.mark.parametrize(("way", "kl"), WAYS, ids=["k3-attached", "k2-detached", "k3-detached"])
def test_the_weight_of_the_sampler_belongs_to_the_kl_too_and_without_it_its_gradient_is_wrong(
    way: dict[str, Any], kl: Any
) -> None:
    world = alone(SEQUENCES, 1.0)
    objective = Reinforce(baseline="none", level="sequence", beta=BETA, kl=KL(**way))
    exact = exact_gradient(Target(kl, "ref", BETA), world)
    assert off_by(climbed(world, objective, drawn(world)), exact) < 1e-11
    assert off_by(climbed(world, objective, drawn(world), bare_kl=True), exact) > 1e-3


def test_a_correction_of_whole_answers_counts_the_tokens_that_a_selector_dropped() -> None:
    batch = Batch(
        tokens=torch.tensor([1, 2, 3]),
        row=torch.tensor([0, 0, 0]),
        group=torch.tensor([0]),
        prompts=(torch.tensor([1]),),
        learn=torch.tensor([True, False, False]),
        reward=torch.tensor([1.0]),
        scored=torch.tensor([True]),
        truncated=torch.tensor([False]),
        sampler=torch.tensor([-1.0, -1.0, -1.0]),
        old=torch.tensor([-1.0, -1.5, -1.5]),
        weight=torch.tensor([1.0, 0.0, 0.0]),
        whole=torch.full((3,), 1 / 3),
        able=torch.ones(3, dtype=torch.bool),
    )
    now = Outputs(batch.old, torch.zeros(3))
    fair = corrected(batch, now, Truncate(level="sequence"), comparable=True)
    assert fair.weight[0] == pytest.approx(math.exp(-1.0))
    alone = corrected(batch.replace(able=None), now, Truncate(level="sequence"), comparable=True)
    assert alone.weight[0] == pytest.approx(1.0)
