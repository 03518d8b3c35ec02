"""The expected gradient of a surrogate, summed over every answer, is the gradient of what it claims to climb."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from klimb.objectives import GRPO, RLOO, RPG, Objective, Reinforce, ReinforcePPBaseline
from tests.objectives.kit import FORMS, Enumerable, changed, named, outputs, without_clip

SEQUENCES = Enumerable(words=3, length=3)
BANDIT = Enumerable(words=4, length=1)
BETA = 0.7


def world(policy: Enumerable, off_policy: bool) -> dict[str, Any]:
    """Parameters of the three policies and a reward for each answer."""
    theta = policy.draw(1)
    old = policy.draw(2) if off_policy else theta
    draw = torch.Generator().manual_seed(4)
    reward = torch.randn(len(policy.answers), generator=draw, dtype=torch.float64)
    return {"theta": theta, "old": policy.logp(old), "ref": policy.logp(policy.draw(3)), "reward": reward}


def exact(policy: Enumerable, here: dict[str, Any], divergence: str, beta: float, ref: Tensor) -> Tensor:
    """grad of E_pi[R] - beta KL, the divergence over whole answers, from the definitions alone."""
    theta = here["theta"].clone().requires_grad_()
    logp, ref = policy.whole(policy.logp(theta)), policy.whole(ref)
    forward, reverse = (ref.exp() * (ref - logp)).sum(), (logp.exp() * (logp - ref)).sum()
    kl = {"f": forward, "r": reverse, "j": forward + reverse}[divergence.removeprefix("u")[0]]
    (gradient,) = torch.autograd.grad((logp.exp() * here["reward"]).sum() - beta * kl, theta)
    return gradient


def expected(policy: Enumerable, here: dict[str, Any], objective: Objective) -> Tensor:
    """grad of the expected surrogate, sign turned: the direction in which the objective climbs."""
    theta = here["theta"].clone().requires_grad_()
    batch = policy.batch(here["reward"], here["old"], here["ref"])
    loss = objective.loss(outputs(policy.logp(theta)), batch).loss
    (gradient,) = torch.autograd.grad(-loss, theta)
    return gradient


def off_by(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def test_the_enumerable_policy_is_a_distribution_over_answers() -> None:
    assert len(SEQUENCES.answers) == len(set(SEQUENCES.answers)) == 1 + 2 + 4 + 8
    total = SEQUENCES.whole(SEQUENCES.logp(SEQUENCES.draw(0))).exp().sum()
    assert abs(float(total) - 1) < 1e-14


@pytest.mark.parametrize("off_policy", [False, True], ids=["on", "off"])
@pytest.mark.parametrize("reference", ["old", "initial"])
@pytest.mark.parametrize("form", FORMS, ids=named)
def test_every_rpg_form_climbs_its_objective_exactly(form: RPG, reference: str, off_policy: bool) -> None:
    for policy, level in ((SEQUENCES, "sequence"), (BANDIT, "token")):
        here = world(policy, off_policy)
        objective = changed(form, reference=reference, level=level, clip="none", beta=BETA)
        target = exact(policy, here, form.divergence, BETA, here["old"] if reference == "old" else here["ref"])
        assert off_by(expected(policy, here, objective), target) < 1e-12


@pytest.mark.parametrize("off_policy", [False, True], ids=["on", "off"])
def test_reinforce_with_sequence_ratios_climbs_the_reward_exactly(off_policy: bool) -> None:
    for policy, level in ((SEQUENCES, "sequence"), (BANDIT, "token")):
        here = world(policy, off_policy)
        target = exact(policy, here, "rkl", 0.0, here["old"])
        assert off_by(expected(policy, here, Reinforce(level=level)), target) < 1e-12  # type: ignore[arg-type]


def test_token_ratios_on_longer_answers_are_biased_off_policy_as_the_docs_say() -> None:
    here = world(SEQUENCES, off_policy=True)
    lengths = torch.bincount(SEQUENCES.row).to(torch.float64)
    # The same weight per token as the sequence form gives, so that only the ratio differs.
    batch = SEQUENCES.batch(here["reward"], here["old"], here["ref"])
    assert batch.weight is not None
    batch = batch.replace(weight=batch.weight * lengths[SEQUENCES.row])
    theta = here["theta"].clone().requires_grad_()
    loss = Reinforce().loss(outputs(SEQUENCES.logp(theta)), batch).loss
    (gradient,) = torch.autograd.grad(-loss, theta)
    assert off_by(gradient, exact(SEQUENCES, here, "rkl", 0.0, here["old"])) > 1e-2


def test_the_unweighted_k2_is_the_reverse_divergence_on_policy_and_neither_off_policy() -> None:
    for off_policy in (False, True):
        here = world(BANDIT, off_policy)
        found = expected(BANDIT, here, without_clip(ReinforcePPBaseline(beta=BETA)))
        forward, reverse = (exact(BANDIT, here, name, BETA, here["ref"]) for name in ("fkl", "rkl"))
        assert (off_by(found, reverse) < 1e-12) is (not off_policy)
        assert off_by(found, forward) > 1e-2


def test_the_unweighted_k3_of_grpo_is_the_forward_divergence_on_policy_and_neither_off_policy() -> None:
    for off_policy in (False, True):
        here = world(BANDIT, off_policy)
        found = expected(BANDIT, here, without_clip(GRPO(beta=BETA)))
        forward, reverse = (exact(BANDIT, here, name, BETA, here["ref"]) for name in ("fkl", "rkl"))
        assert (off_by(found, forward) < 1e-12) is (not off_policy)
        assert off_by(found, reverse) > 1e-2


def test_a_clip_biases_the_gradient_only_once_a_ratio_has_left_its_interval() -> None:
    here = world(BANDIT, off_policy=True)
    near = here | {"old": BANDIT.logp(here["theta"] + 0.01 * BANDIT.draw(9))}
    for form in FORMS:
        objective = changed(form, clip="rpg", reference="old", beta=BETA)
        target = [exact(BANDIT, world, form.divergence, BETA, world["old"]) for world in (near, here)]
        assert off_by(expected(BANDIT, near, objective), target[0]) < 1e-12
        assert off_by(expected(BANDIT, here, objective), target[1]) > 1e-3


def test_the_expected_gradient_of_the_divergence_alone_vanishes_on_policy_towards_the_sampler() -> None:
    here = world(SEQUENCES, off_policy=False)
    here["reward"] = torch.zeros_like(here["reward"])
    for form in FORMS:
        objective = changed(form, level="sequence", clip="none", beta=BETA)
        assert expected(SEQUENCES, here, objective).abs().max() < 1e-14


SHORT = Enumerable(words=3, length=2)


def pairs(policy: Enumerable, here: dict[str, Any], objective: Objective) -> Tensor:
    """The direction in which the objective climbs when two answers are drawn independently, over all pairs."""
    theta, total = here["theta"].clone().requires_grad_(), torch.zeros(())
    logp, likely = policy.logp(theta), policy.whole(here["old"]).exp()
    whole = policy.batch(here["reward"], here["old"], here["ref"])
    for i in range(len(policy.answers)):
        for j in range(len(policy.answers)):
            at = torch.cat([torch.nonzero(policy.row == answer).flatten() for answer in (i, j)])
            second = torch.arange(len(at)) >= len(policy.answers[i])
            two = whole.replace(
                tokens=whole.tokens[at], row=second.long(), group=torch.zeros(2, dtype=torch.int64),
                learn=whole.learn[at], reward=whole.reward[torch.tensor([i, j])], scored=whole.scored[:2],
                truncated=whole.truncated[:2], old=here["old"][at], ref=here["ref"][at],
            )  # fmt: skip
            two = objective.advantage(two)
            two = two.replace(weight=likely[i] * likely[j] / 2 / two.lengths[two.row])
            total = total - objective.loss(outputs(logp[at]), two).loss
    (gradient,) = torch.autograd.grad(total, theta)
    return gradient


@pytest.mark.parametrize("off_policy", [False, True], ids=["on", "off"])
def test_a_group_mean_that_includes_the_sample_shrinks_the_gradient_and_leave_one_out_does_not(
    off_policy: bool,
) -> None:
    here = world(SHORT, off_policy)
    target = exact(SHORT, here, "rkl", 0.0, here["old"])
    assert off_by(pairs(SHORT, here, RLOO()), target) < 1e-12
    if not off_policy:  # else the other's reward is not drawn by pi, and the mean is another baseline
        assert off_by(pairs(SHORT, here, Reinforce(level="sequence")), target / 2) < 1e-12
