"""What is stated of single choices: the KL in the reward, off-policy; the punishment of an answer beyond its limit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from klimb.objectives import DAPO, GRPO, RPG, DrGRPO, Reinforce
from klimb.objectives.penalty import KL, Penalised
from klimb.proving import Enumerable, exact_gradient, prove, world
from klimb.proving.catalog import CLIPS, EVERY, FAR, REWARD, changed, worlds
from klimb.proving.claims import claim
from klimb.proving.credits import estimate
from klimb.proving.makeup import MAKEUPS, Makeup, Pull, makeup
from klimb.proving.targets import Target

IN_REWARD, FROZEN = "k2 or k3 in the reward", "frozen KL"


def stated(objective: Any, off_policy: bool, place: int = 0) -> str:
    return claim(makeup(objective), worlds(FAR if off_policy else 0.0)[place], outside=False).stated


@pytest.mark.parametrize(
    ("estimator", "on", "off"),
    [
        ("k1", "unbiased", FROZEN),
        ("k2", IN_REWARD, f"{IN_REWARD}; {FROZEN}"),
        ("k3", IN_REWARD, f"{IN_REWARD}; {FROZEN}"),
    ],
)
def test_a_kl_in_the_reward_is_right_for_k1_alone_and_frozen_off_policy(estimator: Any, on: str, off: str) -> None:
    for beta, expected in ((0.1, (on, off)), (0.0, ("unbiased", "unbiased"))):
        objective = Reinforce(level="sequence", baseline="none", beta=beta, kl=KL(where="reward", estimator=estimator))
        assert (stated(objective, False), stated(objective, True)) == expected


@pytest.mark.parametrize(
    ("estimator", "weighted", "on", "off"),
    [
        ("k1", "none", "k1 in the loss", "unweighted k1"),
        ("k2", "none", "unbiased", "unweighted k2"),
        ("k3", "none", "unbiased", "unweighted k3"),
        ("k1", "attached", "unbiased", "unbiased"),
        ("k2", "attached", "attached k2", "attached k2"),
        ("k3", "attached", "unbiased", "unbiased"),
        ("k1", "detached", "k1 in the loss", "k1 in the loss"),
        ("k2", "detached", "unbiased", "unbiased"),
        ("k3", "detached", "unbiased", "unbiased"),
    ],
)
def test_what_a_kl_in_the_loss_is_depends_on_estimator_weight_and_policy(
    estimator: Any, weighted: Any, on: str, off: str
) -> None:
    kl = KL(where="loss", estimator=estimator, weighted=weighted)
    objective = Reinforce(level="sequence", baseline="none", beta=0.1, kl=kl)
    assert (stated(objective, False), stated(objective, True)) == (on, off)
    target = claim(makeup(objective), worlds(FAR)[0], outside=False).target
    forward = estimator == "k3" and weighted == "detached"
    assert (target.divergence, target.beta) == ("forward" if forward else "reverse", 0.1)


def test_the_scaled_target_has_the_factors_of_the_biases_that_only_scale() -> None:
    on, off = worlds(0.0)[0], worlds(FAR)[0]
    rewarded = Pull("k1", 0.3, place="answer")
    for stated_, here, reward, beta in (
        (Makeup("group", "row", "sequence"), on, 2 / 3, 1.0),
        (Makeup("batch", "row", "sequence"), on, 5 / 6, 1.0),
        (Makeup("others", 4, "sequence"), off, 1 / 4, 1 / 4),
        (Makeup("group", 4, "sequence", pull=rewarded), on, 1 / 6, 0.3 / 6),
        (Makeup("group", "row", "sequence", pull=Pull("k3", 0.3)), on, 2 / 3, 0.3),
        (Makeup("none", "row", "sequence", pull=Pull("k1", 0.3)), on, 1.0, 0.0),
    ):
        climbs = claim(stated_, here, outside=False).climbs
        assert climbs is not None
        assert climbs.reward == pytest.approx(reward, rel=1e-15)
        assert climbs.beta == pytest.approx(beta, rel=1e-15)
    assert claim(Makeup("group z", "row", "sequence"), on, outside=False).climbs is None


def test_a_clip_or_a_cap_is_a_bias_only_where_there_is_one_and_a_ratio_is_outside() -> None:
    here = worlds(FAR)[0]
    clipped, capped = Makeup("none", "row", "sequence", (0.2, 0.2, math.inf)), Makeup("none", "row", cap=1.5)
    for one, name in ((clipped, "clipped"), (capped, "capped"), (Makeup("none", "row"), "unbiased")):
        assert claim(one, here, outside=True).stated == name
        assert claim(one, here, outside=False).stated == "unbiased"


def test_an_answer_beyond_its_limit_is_punished_once_and_the_statement_knows_it() -> None:
    rows = [row for row in prove(DAPO(length=1, buffer=1)) if row.world == "answers"]
    assert [(row.holds, "overlong punishment" in row.stated) for row in rows] == [(True, True)]
    assert "overlong" not in stated(DAPO(length=5, buffer=3), False, place=1)
    assert "overlong" in stated(DAPO(length=4, buffer=3), False, place=1)
    assert "overlong" not in stated(DAPO(length=1, buffer=1, penalty=0.0), False, place=1)


def test_a_constant_of_one_scales_nothing() -> None:
    assert "constant" not in stated(DrGRPO(length=1), False, place=1)
    assert "constant: 1/L" in stated(DrGRPO(length=2), False, place=1)


def test_a_row_mean_divides_answers_of_several_tokens_alone() -> None:
    assert [("row mean" in stated(GRPO(), False, place)) for place in (0, 1, 2)] == [False, True, True]


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_the_slope_of_an_estimator_is_its_difference_quotient(kind: str) -> None:
    x = np.linspace(-2, 2, 9)
    value, slope = estimate(kind, x)
    step = 1e-6
    quotient = (estimate(kind, x + step)[0] - estimate(kind, x - step)[0]) / (2 * step)
    np.testing.assert_allclose(slope, quotient, atol=1e-8)
    known = {"k1": x, "k2": x**2 / 2, "k3": np.expm1(-x) + x}[kind]
    np.testing.assert_allclose(value, known, atol=1e-15)


def test_a_target_of_the_jeffreys_kl_has_the_sum_of_both_gradients() -> None:
    here = world("", Enumerable(words=2, length=2), 0.5)
    for per_token in (False, True):
        both, forward, reverse = (
            exact_gradient(Target(side, "ref", 0.7, per_token, reward=0.0), here)  # type: ignore[arg-type]
            for side in ("Jeffreys", "forward", "reverse")
        )
        assert float(both.abs().max()) > 1e-3
        torch.testing.assert_close(both, forward + reverse, rtol=1e-12, atol=1e-15)


def test_every_clip_of_rpg_that_its_settings_accept_is_in_the_catalog() -> None:
    accepted = {
        (form, clip, kl)
        for form in ("differentiable", "reinforce")
        for clip in ("rpg", "dual", "cispo")
        for kl in ("inside", "outside")
        if not changed(RPG(), form=form, clip=clip, kl=kl).faults()
    }
    assert set(CLIPS) == accepted
    assert len(CLIPS) == len(accepted) == 11
    proved = {(o.form, o.clip, o.kl) for o in EVERY if isinstance(o, RPG)}
    assert accepted < proved


@pytest.mark.parametrize("kind", [kind for kind in MAKEUPS if issubclass(kind, Penalised)], ids=lambda k: k.__name__)
def test_every_objective_with_a_kl_states_its_weight_and_where_it_is(kind: type[Penalised]) -> None:
    more: dict[str, Any] = {"length": 1} if kind is DrGRPO else {}
    held = kind(beta=0.3, kl=KL(where="loss", estimator="k2", weighted="detached"), **more)
    free, paid = kind(beta=0.0, **more), kind(beta=0.3, kl=REWARD, **more)
    here = worlds(0.0)[0]
    assert claim(makeup(free), here, outside=False).target == Target()
    for objective in (held, paid):
        target = claim(makeup(objective), here, outside=False).target
        assert (target.divergence, target.reference, target.beta) == ("reverse", "ref", 0.3)
    places = {one: pull.rewarded for one, pull in ((o, makeup(o).pull) for o in (held, paid)) if pull}
    assert places == {held: False, paid: True}


def test_a_ratio_of_tokens_goes_with_a_mean_over_tokens_and_one_of_answers_with_a_mean_over_rows() -> None:
    rows = {level: prove(Reinforce(baseline="none", level=level)) for level in ("token", "sequence")}
    assert all(row.holds for found in rows.values() for row in found)
    answers = {level: row.stated for level, found in rows.items() for row in found if row.world == "answers"}
    assert answers == {"token": "token mean", "sequence": "unbiased"}
