"""Clips: where the gradient flows, point by point, and what the value is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from klimb import functional as F

LOW, HIGH, C = 0.2, 0.28, 10.0
# ratio, live where pushed up (force >= 0), live where pushed down (force < 0): below, at and above each bound.
REGIONS = [
    (0.01, True, False),
    (0.79, True, False),
    (0.8, True, False),
    (0.81, True, True),
    (1.0, True, True),
    (1.27, True, True),
    (1.28, False, True),
    (1.29, False, True),
    (9.99, False, True),
    (10.0, False, False),
    (10.01, False, False),
    (4e8, False, False),
]
WIDE = st.floats(-80, 80)


def wide(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def slope(loss: torch.Tensor, at: torch.Tensor) -> float:
    (gradient,) = torch.autograd.grad(loss.sum(), at, allow_unused=True)
    return 0.0 if gradient is None else float(gradient)


@pytest.mark.parametrize(("ratio", "up", "down"), REGIONS)
@pytest.mark.parametrize("force", [2.0, 1e-9, 0.0, -1e-9, -2.0])
def test_the_dual_clip_lets_the_gradient_through_exactly_in_its_regions(
    ratio: float, up: bool, down: bool, force: float
) -> None:
    w = wide(ratio).requires_grad_()
    live = up if force >= 0 else down
    assert bool(F.clip.dual_live(w, wide(force), LOW, HIGH, C)) is live
    assert slope(F.clip.dual(w, wide(force), LOW, HIGH, C), w) == (-force if live else 0.0)


@pytest.mark.parametrize(("ratio", "up", "down"), REGIONS)
@pytest.mark.parametrize("force", [2.0, -2.0])
def test_the_ppo_clip_is_the_dual_clip_without_an_upper_end(ratio: float, up: bool, down: bool, force: float) -> None:
    w = wide(ratio).requires_grad_()
    live = up if force >= 0 else down or ratio >= C
    assert bool(F.clip.ppo_live(w, wide(force), LOW, HIGH)) is live
    assert slope(F.clip.ppo(w, wide(force), LOW, HIGH), w) == (-force if live else 0.0)


@pytest.mark.parametrize(("ratio", "up", "down"), REGIONS)
@pytest.mark.parametrize("weight", [2.0, 0.0, -2.0])
def test_the_rpg_clip_branches_on_the_regularised_weight(ratio: float, up: bool, down: bool, weight: float) -> None:
    logp = wide(-1.5).requires_grad_()
    loss = F.clip.rpg(wide(weight), wide(ratio), logp, (LOW, HIGH, C))
    live = up if weight >= 0 else down
    assert loss.item() == (1.5 * weight if live else 0.0)
    assert slope(loss, logp) == (-weight if live else 0.0)


def test_no_clip_is_infinite_bounds() -> None:
    ratio, advantage = wide(2e-9, 0.5, 4e8, 2e-9, 4e8), wide(1, 1, 1, -1, -1)
    never = (math.inf, math.inf, math.inf)
    assert F.clip.dual_live(ratio, advantage, *never).all()
    assert torch.equal(F.clip.dual(ratio, advantage, *never), F.clip.none(ratio, advantage))


def test_no_clip_is_minus_the_weighted_advantage() -> None:
    np.testing.assert_allclose(F.clip.none(wide(0.5, 3.0), wide(2.0, -1.0)), [-1.0, 3.0])


@settings(deadline=None)
@given(WIDE, st.floats(-5, 5), st.floats(0, 1), st.floats(0, 2), st.floats(1.001, 20))
def test_the_values_are_those_of_the_papers(gap: float, a: float, low: float, high: float, c: float) -> None:
    w = math.exp(np.clip(gap, -20, 20))
    ppo = max(-w * a, -np.clip(w, 1 - low, 1 + high) * a)
    dual = ppo if a >= 0 else min(ppo, -c * a)
    np.testing.assert_allclose(F.clip.ppo(wide(w), wide(a), low, high), [ppo], rtol=1e-12, atol=1e-300)
    if c >= 1 + high:
        np.testing.assert_allclose(F.clip.dual(wide(w), wide(a), low, high, c), [dual], rtol=1e-12, atol=1e-300)


@settings(deadline=None)
@given(WIDE, st.floats(-5, 5))
def test_no_clip_overflows(gap: float, advantage: float) -> None:
    logp = torch.tensor([gap], requires_grad=True)
    ratio, a = F.importance.ratio(logp), torch.tensor([advantage])
    losses = [
        F.clip.none(ratio, a),
        F.clip.ppo(ratio, a, LOW, HIGH),
        F.clip.dual(ratio, a, LOW, HIGH, C),
        F.clip.rpg(ratio * a, ratio, logp, (LOW, HIGH, C)),
        F.clip.cispo(ratio, a, logp, 5.0),
    ]
    (gradient,) = torch.autograd.grad(torch.cat(losses).sum(), logp)
    assert torch.isfinite(torch.cat([*losses, gradient])).all()


def test_cispo_keeps_the_gradient_of_clipped_tokens_with_a_capped_weight() -> None:
    logp = wide(-1.0, -1.0, -1.0).requires_grad_()
    loss = F.clip.cispo(wide(0.5, 4.0, 9.0), wide(2.0, 2.0, -1.0), logp, 5.0)
    (gradient,) = torch.autograd.grad(loss.sum(), logp)
    np.testing.assert_allclose(loss.detach(), [1.0, 8.0, -5.0])
    np.testing.assert_allclose(gradient, [-1.0, -8.0, 5.0])


def test_an_advantage_that_carries_a_gradient_is_taken_as_a_constant() -> None:
    advantage = wide(1.0, -1.0).requires_grad_()
    loss = F.clip.dual(wide(1.0, 1.0).requires_grad_(), advantage, LOW, HIGH, C)
    assert torch.autograd.grad(loss.sum(), advantage, allow_unused=True) == (None,)


def test_the_clips_have_the_right_gradient() -> None:
    ratio, advantage = wide(0.5, 0.9, 1.2, 2.0, 0.5, 0.9, 5.0, 12.0), wide(1, 1, 1, 1, -1, -1, -1, -1)
    fixed = ratio.clone()
    ratio.requires_grad_()
    assert gradcheck(lambda w: F.clip.none(w, advantage), ratio)
    assert gradcheck(lambda w: F.clip.ppo(w, advantage, LOW, HIGH), ratio)
    assert gradcheck(lambda w: F.clip.dual(w, advantage, LOW, HIGH, C), ratio)
    assert gradcheck(lambda p: F.clip.rpg(advantage, fixed, p, (LOW, HIGH, C)), ratio)
    assert gradcheck(lambda p: F.clip.cispo(fixed, advantage, p, 1.5), ratio)


@pytest.mark.parametrize(("ratio", "up", "down"), REGIONS)
@pytest.mark.parametrize("force", [2.0, -2.0])
@pytest.mark.parametrize("weight", [0.5, -0.5])
def test_a_clip_by_another_sign_lets_through_where_that_sign_says(
    ratio: float, up: bool, down: bool, force: float, weight: float
) -> None:
    w, logp, live = wide(ratio).requires_grad_(), wide(-1.5).requires_grad_(), up if force >= 0 else down
    score = F.clip.score_by(wide(weight), w, logp, wide(force), (LOW, HIGH, C))
    assert slope(score, logp) == (-weight if live else 0.0)
    ratioed = F.clip.dual_by(w, wide(weight), wide(force), (LOW, HIGH, C))
    assert slope(ratioed, w) == (-weight if live else 0.0)
    bound = min(ratio, 1 + HIGH) if force >= 0 else min(max(ratio, 1 - LOW), C)
    assert ratioed.item() == -bound * weight


def test_what_is_clipped_by_another_sign_has_the_right_gradient() -> None:
    ratio, sign = wide(0.5, 0.9, 1.2, 2.0, 0.5, 0.9, 5.0, 12.0), wide(1, 1, 1, 1, -1, -1, -1, -1)
    weight, bounds = -sign * 0.3, (LOW, HIGH, C)
    assert gradcheck(lambda w: F.clip.dual_by(w, weight, sign, bounds), ratio.clone().requires_grad_())
    assert gradcheck(lambda p: F.clip.score_by(weight, ratio, p, sign, bounds), ratio.clone().requires_grad_())
