"""Losses on preferences: their values, their signs, and the gradient of the reverse KL on every answer there is."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from klimb import functional as F

P = F.preference
GAP = torch.tensor([-2.0, 0.0, 0.3, 5.0], dtype=torch.float64)


def test_each_loss_is_its_formula() -> None:
    s = torch.sigmoid(0.1 * GAP)
    zero = torch.zeros_like(GAP)
    assert torch.allclose(P.dpo(GAP, 0.1), -s.log())
    assert torch.allclose(P.conservative(GAP, 0.1, 0.2), -0.8 * s.log() - 0.2 * (1 - s).log())
    assert torch.allclose(P.robust(GAP, 0.1, 0.2), (-0.8 * s.log() + 0.2 * (1 - s).log()) / 0.6)
    assert torch.allclose(P.ipo(GAP, 0.5), (GAP - 1).square())
    assert P.hinge(GAP, 0.5).tolist() == pytest.approx([2.0, 1.0, 0.85, 0.0])
    assert torch.allclose(P.simpo(GAP, zero, 0.1, 0.4), -torch.sigmoid(0.1 * GAP - 0.4).log())
    assert torch.allclose(P.bradley_terry(GAP, zero + 0.5), -torch.sigmoid(GAP - 0.5).log())
    assert P.centring(GAP, GAP).tolist() == pytest.approx([16.0, 0.0, 0.36, 100.0])
    assert torch.allclose(P.kto(GAP, zero + 1, zero - 1, 2.0), 1 - torch.sigmoid(-2 * (GAP - 1)))


def test_the_losses_have_the_right_gradient() -> None:
    gap, sign = GAP.clone().requires_grad_(), torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    point = torch.full_like(GAP, 0.7)
    for loss in (
        lambda x: P.dpo(x, 0.6), lambda x: P.conservative(x, 0.6, 0.2), lambda x: P.robust(x, 0.6, 0.2),
        lambda x: P.ipo(x, 0.5), lambda x: P.hinge(x, 0.5), lambda x: P.kto(x, point, sign, 0.6),
        lambda x: P.bradley_terry(x, point),
    ):  # fmt: skip
        assert gradcheck(loss, gap)
    chosen, rejected = (torch.tensor(m, dtype=torch.float64, requires_grad=True) for m in ([-0.5, -2.0], [-3.0, -0.1]))
    for pair in (lambda w, x: P.simpo(w, x, 2.0, 0.4), P.orpo, P.centring):
        assert gradcheck(pair, (chosen, rejected))
    assert gradcheck(P.log_odds, chosen)


def test_log_odds_are_finite_where_an_answer_is_certain() -> None:
    mean = torch.tensor([-0.5, 0.0, -40.0], dtype=torch.float64, requires_grad=True)
    odds = P.log_odds(mean)
    assert float(odds[0].detach()) == pytest.approx(math.log(math.exp(-0.5) / (1 - math.exp(-0.5))))
    assert torch.isfinite(torch.autograd.grad(odds.sum(), mean)[0]).all() and torch.isfinite(odds).all()
    even = P.orpo(mean.detach(), mean.detach())
    assert even.tolist() == pytest.approx([math.log(2)] * 3)


def test_conservative_and_robust_without_noise_are_dpo() -> None:
    assert torch.equal(P.conservative(GAP, 0.3, 0.0), P.dpo(GAP, 0.3))
    assert torch.equal(P.robust(GAP, 0.3, 0.0), P.dpo(GAP, 0.3))


def test_robust_dpo_is_unbiased_under_flipped_labels() -> None:
    noisy = 0.7 * P.robust(GAP, 0.3, 0.3) + 0.3 * P.robust(-GAP, 0.3, 0.3)
    assert torch.allclose(noisy, P.dpo(GAP, 0.3))


LOGITS = torch.tensor([0.4, -1.0, 0.9, 0.1, -0.3, 0.6], dtype=torch.float64)
REF = torch.tensor([-0.2, 0.5, 0.0, 1.2, -0.7, 0.3], dtype=torch.float64).log_softmax(0)


def expected(loss: Callable[[Tensor, Tensor], Tensor], temperature: float = 1.0) -> Tensor:
    """The gradient of E[loss] with two independent draws; `loss` gives a table (first, second) from log-probs, r."""
    theta = LOGITS.clone().requires_grad_()
    logp = theta.log_softmax(0)
    drawn = (LOGITS / temperature).softmax(0)
    table = loss(logp, (logp - REF).detach())
    return torch.autograd.grad((drawn[:, None] * drawn[None, :] * table).sum(), theta)[0]


def true() -> Tensor:
    theta = LOGITS.clone().requires_grad_()
    logp = theta.log_softmax(0)
    return torch.autograd.grad((logp.exp() * (logp - REF)).sum(), theta)[0]


def hypo(logp: Tensor, r: Tensor) -> Tensor:
    """The two draws' forces by the formula of the house, each times its log-prob, half a row each."""
    table = []
    for i in range(6):
        for j in range(6):
            force = P.divergence_force(torch.stack([r[i], r[j]]), torch.zeros(2, dtype=torch.int64), 1)
            table.append((force[0] * logp[i] + force[1] * logp[j]) / 2)
    return torch.stack(table).reshape(6, 6)


def test_the_expected_gradient_is_that_of_the_reverse_kl() -> None:
    assert torch.allclose(expected(hypo), true(), atol=1e-12)


def first(values: Tensor) -> Tensor:
    return values[:, None].expand(6, 6)


def test_k1_in_the_loss_does_nothing() -> None:
    assert torch.allclose(expected(lambda logp, r: first(logp - REF)), torch.zeros(6, dtype=torch.float64), atol=1e-12)


def test_a_baseline_with_the_sample_in_it_halves_the_gradient_at_two_samples() -> None:
    wrong = expected(lambda logp, r: (first(r) - (r[:, None] + r[None, :]) / 2) * first(logp))
    assert torch.allclose(wrong, true() / 2, atol=1e-12)


def test_k3_in_the_loss_has_the_gradient_of_the_forward_kl() -> None:
    theta = LOGITS.clone().requires_grad_()
    forward = torch.autograd.grad((REF.exp() * (REF - theta.log_softmax(0))).sum(), theta)[0]
    found = expected(lambda logp, r: first(F.divergence.k3(logp - REF)))
    assert torch.allclose(found, forward, atol=1e-12) and not torch.allclose(found, true(), atol=1e-3)


@pytest.mark.parametrize("wrong", ["clipped", "temperature"])
def test_a_clipped_ratio_or_another_temperature_is_biased(wrong: str) -> None:
    if wrong == "clipped":
        found = expected(lambda logp, r: first(r.clamp(-0.5, 0.5)) * first(logp))
    else:
        found = expected(hypo, temperature=0.7)
    assert float((found - true()).abs().max()) > 0.02
