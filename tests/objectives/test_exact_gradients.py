"""The expected gradient of a surrogate, summed over every answer, is the gradient of what it claims to climb."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from klimb.objectives import GRPO, RLOO, RPG, Reinforce, ReinforcePPBaseline
from klimb.proving import Enumerable, Target, World, exact_gradient, expected_gradient, world
from klimb.proving.targets import Divergence
from tests.objectives.kit import FORMS, changed, named, without_clip

SEQUENCES = Enumerable(words=3, length=3)
BANDIT = Enumerable(words=4, length=1)
BETA = 0.7


def alone(policy: Enumerable, drift: float) -> World:
    """Single answers whose advantage is their reward."""
    return world("", policy, drift, given=True)


def target(form: RPG) -> Target:
    divergence: Divergence = "forward" if form.divergence.endswith("fkl") else "reverse"
    divergence = "Jeffreys" if form.divergence == "jeffreys" else divergence
    return Target(divergence, "old" if form.reference == "old" else "ref", BETA)


def off_by(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("drift", [0.0, 1.0], ids=["on", "off"])
@pytest.mark.parametrize("reference", ["old", "initial"])
@pytest.mark.parametrize("form", FORMS, ids=named)
def test_every_rpg_form_climbs_its_objective_exactly(form: RPG, reference: str, drift: float) -> None:
    for policy, level in ((SEQUENCES, "sequence"), (BANDIT, "token")):
        here = alone(policy, drift)
        objective = changed(form, reference=reference, level=level, clip="none", beta=BETA)
        assert off_by(expected_gradient(objective, here), exact_gradient(target(objective), here)) < 1e-12


@pytest.mark.parametrize("drift", [0.0, 1.0], ids=["on", "off"])
def test_reinforce_with_sequence_ratios_climbs_the_reward_exactly(drift: float) -> None:
    for policy, level in ((SEQUENCES, "sequence"), (BANDIT, "token")):
        here = alone(policy, drift)
        found = expected_gradient(changed(Reinforce(), level=level), here)
        assert off_by(found, exact_gradient(Target(), here)) < 1e-12


@pytest.mark.parametrize("drift", [0.0, 1.0], ids=["on", "off"])
def test_token_ratios_on_longer_answers_are_biased_off_policy_as_the_docs_say(drift: float) -> None:
    # Answers of one length, so that the weights (one over it) scale the gradient and do nothing else.
    here = alone(Enumerable(words=2, length=2, ends=False), drift)
    found = expected_gradient(Reinforce(), here)
    assert (off_by(2 * found, exact_gradient(Target(), here)) < 1e-12) is (drift == 0)


@pytest.mark.parametrize(
    ("objective", "side"), [(ReinforcePPBaseline(beta=BETA), "reverse"), (GRPO(beta=BETA), "forward")], ids=["k2", "k3"]
)
@pytest.mark.parametrize("drift", [0.0, 1.0], ids=["on", "off"])
def test_the_unweighted_k2_is_the_reverse_and_k3_the_forward_divergence_on_policy_and_neither_off_policy(
    objective: GRPO, side: str, drift: float
) -> None:
    here = alone(BANDIT, drift)
    found = expected_gradient(without_clip(objective), here)
    gaps = {name: off_by(found, exact_gradient(Target(name, "ref", BETA), here)) for name in ("forward", "reverse")}  # type: ignore[arg-type]
    assert (gaps.pop(side) < 1e-12) is (drift == 0)
    assert min(gaps.values()) > 1e-2


def test_a_clip_biases_the_gradient_only_once_a_ratio_has_left_its_interval() -> None:
    for form in FORMS:
        objective = changed(form, clip="rpg", reference="old", beta=BETA)
        gaps = [
            off_by(expected_gradient(objective, here), exact_gradient(target(objective), here))
            for here in (alone(BANDIT, 0.01), alone(BANDIT, 1.0))
        ]
        assert gaps[0] < 1e-12
        assert gaps[1] > 1e-3


def test_the_expected_gradient_of_the_divergence_alone_vanishes_on_policy_towards_the_sampler() -> None:
    here = alone(SEQUENCES, 0.0)
    here = replace(here, reward=torch.zeros_like(here.reward))
    for form in FORMS:
        objective = changed(form, level="sequence", clip="none", beta=BETA)
        assert expected_gradient(objective, here).abs().max() < 1e-14


@pytest.mark.parametrize("mass", [0.3, 2.5])
@pytest.mark.parametrize("form", [form for form in FORMS if form.divergence in ("ufkl", "urkl")], ids=named)
def test_towards_a_reference_of_mass_z_the_forward_u_form_pulls_z_times_and_the_reverse_one_as_before(
    form: RPG, mass: float
) -> None:
    here = alone(BANDIT, 1.0)
    scaled = replace(here, reward=torch.zeros_like(here.reward))
    shift = math.log(mass)
    vars(scaled)["batches"] = tuple((p, batch.replace(ref=batch.ref + shift)) for p, batch in scaled.batches)
    objective = changed(form, reference="initial", level="token", clip="none", beta=BETA)
    side: Divergence = "forward" if form.divergence == "ufkl" else "reverse"
    pull = exact_gradient(Target(side, "ref", BETA, reward=0.0), here)
    assert float(pull.abs().max()) > 1e-2
    assert off_by(expected_gradient(objective, scaled), pull * (mass if side == "forward" else 1.0)) < 1e-12


@pytest.mark.parametrize("group", [2, 3, 4])
@pytest.mark.parametrize("drift", [0.0, 1.0], ids=["on", "off"])
def test_a_group_mean_that_includes_the_sample_shrinks_the_gradient_and_leave_one_out_does_not(
    drift: float, group: int
) -> None:
    here = world("", Enumerable(words=2, length=2), drift, group=group)
    exact = exact_gradient(Target(), here)
    assert off_by(expected_gradient(RLOO(), here), exact) < 1e-12
    assert off_by(expected_gradient(Reinforce(level="sequence"), here), exact * (group - 1) / group) < 1e-12
