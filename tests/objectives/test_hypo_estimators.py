"""The estimators of HyPO's KL gradient, summed over every batch of samples: what they are on average, and how noisy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from klimb import functional as F
from klimb.batch import Batch
from klimb.objectives import HyPO
from klimb.proving.expected import exactly, together
from klimb.proving.policy import Enumerable
from klimb.proving.samples import outputs
from klimb.proving.worlds import World, world
from klimb.types import Label


def fresh(objective: HyPO, one: Batch) -> Batch:
    """The batch as samples that nobody has scored, with the weights of a step."""
    part = one.replace(label=torch.full((one.rows,), int(Label.FRESH)))
    return part.replace(weight=exactly(objective.weighting(part)))


def true(here: World) -> Tensor:
    """The gradient of KL(pi||ref), by its definition."""
    theta = here.theta.clone().requires_grad_()
    now = here.policy.whole(here.policy.logp(theta))
    return torch.autograd.grad((now.exp() * (now - here.policy.whole(here.ref_logp))).sum(), theta)[0]


def slopes(objective: HyPO, here: World, forget: bool = False) -> list[tuple[float, Tensor]]:
    """The gradient of the loss on every batch of samples that can be drawn, with its probability.

    With `forget` the samples are taken for those of the policy as it is, though `here.old` has drawn them.
    """
    theta, found = here.theta.clone().requires_grad_(), []
    for (probability, drawn), (_, one) in zip(here.outcomes, here.batches, strict=True):
        part = fresh(objective, one.replace(old=None) if forget else one)
        at = here.places(drawn)
        logp, near = (one.flatten()[at] for one in (here.policy.logp(theta), here.policy.divergence(theta, here.ref)))
        loss = objective.loss(outputs(logp, divergence=near), part).loss
        found.append((probability, torch.autograd.grad(loss, theta)[0]))
    return found


def climbed(objective: HyPO, here: World, forget: bool = False) -> Tensor:
    """The expected gradient of the loss."""
    return torch.stack([chance * slope for chance, slope in slopes(objective, here, forget)]).sum(0)


def variance(objective: HyPO, here: World) -> float:
    """The mean squared distance of the loss's gradient from its expectation."""
    mean = climbed(objective, here)
    return float(sum(chance * (slope - mean).square().sum() for chance, slope in slopes(objective, here)))


@pytest.mark.parametrize("drift", [0.0, 0.3])
@pytest.mark.parametrize("estimator", list(F.preference.FORCES))
def test_the_expected_gradient_on_samples_is_the_weighted_reverse_kl(drift: float, estimator: Any) -> None:
    here = world("answers", Enumerable(words=2, length=3), drift, group=2)
    exact = true(here)
    found = climbed(HyPO(kl_weight=0.3, estimator=estimator), here)
    assert torch.allclose(found, 0.3 * exact, atol=1e-10)
    assert float(exact.abs().max()) > 0.01


def test_the_exact_kls_along_samples_are_the_kl_and_their_own_gradient_alone_is_not_its() -> None:
    here = world("answers", Enumerable(words=2, length=3), 0.0, group=2)
    theta = here.theta.clone().requires_grad_()
    now, along = here.policy.whole(here.policy.logp(theta)), here.policy.whole(here.policy.divergence(theta, here.ref))
    whole = (now.exp() * (now - here.policy.whole(here.ref_logp))).sum()
    assert float((now.exp() * along).sum().detach()) == pytest.approx(float(whole.detach()), abs=1e-12)
    alone = torch.autograd.grad((now.exp().detach() * along).sum(), theta, retain_graph=True)[0]
    rest = torch.autograd.grad((now.exp() * along.detach()).sum(), theta)[0]
    assert torch.allclose(alone + rest, true(here), atol=1e-12)
    assert float((alone - true(here)).abs().max()) > 0.01, "where the policy will stand is left out"


def test_the_exact_estimator_has_the_least_variance_and_the_whole_answers_ratio_the_most() -> None:
    here = world("answers", Enumerable(words=2, length=3), 0.0, group=2)
    spread = [variance(HyPO(kl_weight=1.0, estimator=one), here) for one in ("exact", "reward_to_go", "leave_one_out")]
    assert 2 * spread[0] < spread[1] < spread[2], spread


def test_each_tokens_own_ratio_is_not_the_gradient_of_the_divergence() -> None:
    here = world("answers", Enumerable(words=2, length=3), 0.0, group=2)
    theta = here.theta.clone().requires_grad_()
    logp = here.policy.logp(theta)
    now, exact = here.policy.whole(logp), true(here)
    own = here.policy.whole((logp - here.ref_logp).detach() * logp)
    wrong = torch.autograd.grad((now.exp().detach() * own).sum(), theta)[0]
    assert float((wrong - exact).abs().max()) > 0.01


@pytest.mark.parametrize("estimator", list(F.preference.FORCES))
def test_without_their_importance_weights_reused_samples_give_another_gradient(estimator: Any) -> None:
    here = world("answers", Enumerable(words=2, length=3), 0.3, group=2)
    found = climbed(HyPO(kl_weight=1.0, estimator=estimator), here, forget=True)
    assert float((found - true(here)).abs().max()) > 0.01


def test_parts_of_a_step_add_up_to_the_exact_estimators_gradient() -> None:
    objective, here = HyPO(estimator="exact"), world("answers", Enumerable(words=2, length=3), 0.3, group=3)
    some = [one.replace(advantage=one.old, weight=one.old) for _, one in here.batches[:4]]
    whole = fresh(objective, together(some))
    draw = torch.Generator().manual_seed(0)
    logp, near = (torch.rand(len(whole.row), generator=draw, dtype=torch.float64) for _ in range(2))
    both, place = slope_of(objective, whole, logp - 2, near), 0
    for part in whole.split(8):
        at = slice(place, place + len(part.row))
        piece = slope_of(objective, part, logp[at] - 2, near[at])
        assert all(torch.allclose(a, b[at], atol=1e-12) for a, b in zip(piece, both, strict=True))
        place = at.stop
    assert place == len(whole.row) > 2 * len(part.row)


def test_the_exact_estimator_is_not_asked_for_without_a_weight_and_says_what_it_lacks() -> None:
    assert not HyPO(estimator="exact", kl_weight=0.0).reads_divergence and HyPO(estimator="exact").reads_divergence
    here = world("answers", Enumerable(words=2, length=2), 0.0, group=2)
    part = fresh(HyPO(), here.batches[0][1])
    with pytest.raises(ValueError, match="no `divergence`"):
        HyPO(estimator="exact").loss(outputs(torch.zeros(len(part.row))), part)


def slope_of(objective: HyPO, part: Batch, logp: Tensor, near: Tensor) -> tuple[Tensor, ...]:
    """The loss's gradient in each token's log-prob and in its exact divergence."""
    leaves = [one.clone().requires_grad_() for one in (logp, near)]
    return torch.autograd.grad(objective.loss(outputs(leaves[0], divergence=leaves[1]), part).loss, leaves)
