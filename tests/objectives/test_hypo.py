"""HyPO's own loss in expectation over every sample, on a policy with answers that no pair covers; DPO's beside it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from klimb.batch import Batch
from klimb.functional.preference import FORCES, dpo
from klimb.objectives import DPO, HyPO
from klimb.objectives.paired import Referred
from klimb.proving.expected import exactly
from klimb.proving.policy import Enumerable
from klimb.proving.samples import outputs
from klimb.types import Label

POLICY = Enumerable(words=2, length=2, ends=False)
CHOSEN, REJECTED = POLICY.answers.index((0, 0)), POLICY.answers.index((0, 1))
"""The only pair; no pair has an answer that begins with 1."""
DRAWN = list(product(range(len(POLICY.answers)), repeat=2))
ROWS = [CHOSEN, REJECTED, *(answer for both in DRAWN for answer in both)]
AT = torch.cat([POLICY.places(answer) for answer in ROWS])
SHARED = torch.tensor([[[0.0, 2.0], [1.0, 0.0], [0.0, 2.0]]], dtype=torch.float64)
"""What the one parameter adds to the logits after nothing, 0 and 1: the uncovered (1, 1) has the most of it."""


def logits(theta: Tensor, depth: float) -> Tensor:
    """At theta = 0, the reference, (1, 1) has a probability of about exp(-depth)."""
    deep = torch.tensor([0.0, -depth / 2], dtype=torch.float64)
    return torch.stack([deep, 0 * deep, deep])[None] + theta * SHARED


def logp(theta: Tensor, depth: float) -> Tensor:
    """log pi of each token."""
    return POLICY.logp(logits(theta, depth))


def batch(depth: float) -> Batch:
    """The pair, and every two samples that can be drawn, each as a group."""
    group = torch.tensor([0, 0, *(1 + place for place in range(len(DRAWN)) for _ in range(2))])
    none = torch.zeros(len(ROWS), dtype=torch.bool)
    row = torch.arange(len(ROWS)).repeat_interleave(2)
    return Batch(
        tokens=POLICY.word[AT], row=row, group=group, prompts=(torch.zeros(1, dtype=torch.int64),) * (1 + len(DRAWN)),
        learn=~none[row], reward=none.double(), scored=none, truncated=none, ref=_at(torch.zeros(()), depth),
        label=torch.tensor([int(Label.CHOSEN), int(Label.REJECTED), *[int(Label.FRESH)] * (len(ROWS) - 2)]),
    )  # fmt: skip


def _at(theta: Tensor, depth: float) -> Tensor:
    return logp(theta, depth).flatten()[AT]


def expected(objective: Referred, theta: Tensor, depth: float, whole: Batch) -> Tensor:
    """The gradient of `objective.loss` on the pair and two samples, summed over the samples by their probability."""
    likely = POLICY.whole(logp(theta, depth)).exp()[0].detach()
    chance = torch.stack([likely[a] * likely[b] for a, b in DRAWN]) * len(DRAWN)
    chance = torch.cat([torch.ones(2, dtype=torch.float64), chance.repeat_interleave(2)])
    part = whole.replace(weight=exactly(objective.weighting(whole)) * chance[whole.row])
    near = POLICY.divergence(logits(theta, depth), logits(torch.zeros(()), depth)).flatten()[AT]
    return torch.autograd.grad(objective.loss(outputs(_at(theta, depth), divergence=near), part).loss, theta)[0]


def divergence(theta: Tensor, depth: float) -> Tensor:
    now, ref = (POLICY.whole(logp(one, depth))[0] for one in (theta, torch.zeros(())))
    return (now.exp() * (now - ref)).sum()


def trained(objective: Referred, depth: float, steps: int, rate: float) -> list[float]:
    """KL(pi||ref) in nats after each of so many steps down the expected gradient; at last the gradient's size."""
    theta, whole, found = torch.zeros((), dtype=torch.float64, requires_grad=True), batch(depth), list[float]()
    for _ in range(steps):
        theta = (theta - rate * expected(objective, theta, depth, whole)).detach().requires_grad_()
        found.append(float(divergence(theta, depth).detach()))
    return [*found, abs(float(expected(objective, theta, depth, whole)))]


@pytest.mark.parametrize("estimator", list(FORCES))
def test_the_expected_gradient_is_that_of_dpo_and_the_weighted_reverse_kl(estimator: Any) -> None:
    theta = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    now, ref = (POLICY.whole(logp(one, 3.0))[0] for one in (theta, torch.zeros(())))
    gap = (now - ref)[[CHOSEN]] - (now - ref)[[REJECTED]]
    (exact,) = torch.autograd.grad(dpo(gap, 0.1).sum() + 0.7 * divergence(theta, 3.0), theta)
    found = expected(HyPO(beta=0.1, kl_weight=0.7, estimator=estimator), theta, 3.0, batch(3.0))
    assert float(found) == pytest.approx(float(exact), abs=1e-12) and abs(float(exact)) > 0.1


@pytest.mark.parametrize("depth", [6.0, 24.0])
def test_on_an_uncovered_answer_dpos_divergence_has_no_bound_but_the_references_and_hypos_stays(depth: float) -> None:
    *grown, still = trained(DPO(beta=0.1), depth, 14, 32.0)
    assert grown[0] < grown[3] < grown[-1] and 0.98 * depth < grown[-1] < depth + 0.1 and still > 0.01
    *held, gradient = trained(HyPO(beta=0.1, kl_weight=1.0), depth, 10, 2.0)
    assert max(held) < 0.1 and gradient < 1e-4, "where it stands it stays"


def test_a_large_weight_keeps_the_divergence_near_zero() -> None:
    ends = [trained(HyPO(beta=0.1, kl_weight=weight), 12.0, 10, 3.0 / weight) for weight in (1.0, 100.0)]
    assert max(ends[0]) > 1e-3 and max(ends[1]) < 1e-6 and max(end[-1] for end in ends) < 1e-6
