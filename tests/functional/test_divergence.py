"""Divergences: values, forces, and what each estimator's gradient really is, by exact expectations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from klimb.functional import divergence as d

DRAW = torch.Generator().manual_seed(1)
THETA, OLD, REF = (torch.randn(5, generator=DRAW, dtype=torch.float64) for _ in range(3))
FORMS = {
    "fkl": (d.fkl, d.fkl_force),
    "rkl": (d.rkl, d.rkl_force),
    "ufkl": (d.ufkl, d.ufkl_force),
    "urkl": (d.urkl, d.urkl_force),
    "jeffreys": (d.jeffreys, d.jeffreys_force),
}
WIDE = st.floats(-80, 80)


def gradient(value: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient at THETA of a number computed from log pi."""
    theta = THETA.clone().requires_grad_()
    (out,) = torch.autograd.grad(value(theta.log_softmax(0)), theta)
    return out


def forward_kl(ref: Tensor) -> Tensor:
    return gradient(lambda logp: (ref.exp() * (ref - logp)).sum())


def reverse_kl(ref: Tensor) -> Tensor:
    return gradient(lambda logp: (logp.exp() * (logp - ref)).sum())


def off_by(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


LOGOLD, LOGREF = OLD.log_softmax(0), REF.log_softmax(0)


@settings(max_examples=50, deadline=None)
@given(WIDE, WIDE)
def test_the_values_and_forces_are_their_formulas(lw: float, lu: float) -> None:
    w, u = np.exp(np.clip([lw, lu], -20, 20))
    values = {
        "fkl": u * (lu - lw),
        "rkl": w * (lw - lu),
        "ufkl": u * (lu - lw) + w - u,
        "urkl": w * (lw - lu) + u - w,
        "jeffreys": (w - u) * (lw - lu),
    }
    forces = {"fkl": u, "rkl": -w * (lw - lu + 1), "ufkl": -(w - u), "urkl": -w * (lw - lu)}
    forces["jeffreys"] = u - w * (lw - lu + 1)
    at = torch.tensor([lw], dtype=torch.float64), torch.tensor([lu], dtype=torch.float64)
    for name, (value, force) in FORMS.items():
        np.testing.assert_allclose(value(*at), [values[name]], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(force(*at), [forces[name]], rtol=1e-9, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.floats(-19.9, 19.9), WIDE)
def test_a_force_is_minus_the_slope_of_its_value(lw: float, lu: float) -> None:
    at, to = torch.tensor([lw], dtype=torch.float64, requires_grad=True), torch.tensor([lu], dtype=torch.float64)
    for value, force in FORMS.values():
        (slope,) = torch.autograd.grad(value(at, to).sum(), at)
        np.testing.assert_allclose(force(at.detach(), to), -slope, rtol=1e-12, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(WIDE, WIDE)
def test_nothing_overflows_in_single_precision(lw: float, lu: float) -> None:
    at, to = torch.tensor([lw], requires_grad=True), torch.tensor([lu])
    found = [f(at, to) for pair in FORMS.values() for f in pair] + [k(at) for k in (d.k1, d.k2, d.k3)]
    (slope,) = torch.autograd.grad(torch.cat(found).sum(), at)
    assert torch.isfinite(torch.cat([*found, slope])).all()


@settings(max_examples=50, deadline=None)
@given(st.floats(-19.9, 19.9))
def test_towards_the_sampler_they_are_the_papers_four(lw: float) -> None:
    w, zero = np.exp(lw), torch.zeros(1, dtype=torch.float64)
    at = torch.tensor([lw], dtype=torch.float64)
    paper = {"fkl": -lw, "rkl": w * lw, "ufkl": w - lw - 1, "urkl": w * lw - w + 1, "jeffreys": (w - 1) * lw}
    for name, (value, _) in FORMS.items():
        np.testing.assert_allclose(value(at, zero), [paper[name]], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(d.k3(-at), d.ufkl(at, zero), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("mass", [1.0, 0.3, 2.5])
@pytest.mark.parametrize("name", FORMS)
def test_the_mean_under_old_is_the_divergence_for_any_mass_of_the_reference(name: str, mass: float) -> None:
    ref = LOGREF + np.log(mass)

    def stated(logp: Tensor) -> Tensor:
        pi, r = logp.exp(), ref.exp()
        extra = pi.sum() - r.sum() if name == "ufkl" else r.sum() - pi.sum() if name == "urkl" else 0.0
        forward, reverse = (r * (ref - logp)).sum() + extra, (pi * (logp - ref)).sum() + extra
        return forward + reverse if name == "jeffreys" else forward if name.endswith("fkl") else reverse

    def estimated(logp: Tensor) -> Tensor:
        return (LOGOLD.exp() * FORMS[name][0](logp - LOGOLD, ref - LOGOLD)).sum()

    now = THETA.log_softmax(0)
    assert abs(float(stated(now) - estimated(now))) < 1e-12
    assert off_by(gradient(stated), gradient(estimated)) < 1e-12
    weight = (LOGOLD.exp() * FORMS[name][1](now - LOGOLD, ref - LOGOLD)).detach()
    assert off_by(gradient(stated), gradient(lambda logp: -(weight * logp).sum())) < 1e-12


@pytest.mark.parametrize("mass", [0.3, 2.5])
@pytest.mark.parametrize("name", ["ufkl", "urkl"])
@pytest.mark.parametrize("towards", ["old", "ref"])
def test_the_unnormalised_forms_are_exact_under_a_sampler_of_any_mass(name: str, towards: str, mass: float) -> None:
    # Props 3.2 and 3.6: old of mass Z, E over the normalised old, times Z; `whole` knows of no sampler.
    old = LOGOLD + np.log(mass)
    ref = old if towards == "old" else LOGREF + np.log(0.6)

    def whole(logp: Tensor) -> Tensor:
        pi, r = logp.exp(), ref.exp()
        if name == "ufkl":
            return (r * (ref - logp)).sum() + pi.sum() - r.sum()
        return (pi * (logp - ref)).sum() + r.sum() - pi.sum()

    def sampled(logp: Tensor) -> Tensor:
        return mass * (LOGOLD.exp() * FORMS[name][0](logp - old, ref - old)).sum()

    now = THETA.log_softmax(0)
    assert abs(float(whole(now) - sampled(now))) < 1e-12
    assert off_by(gradient(whole), gradient(sampled)) < 1e-12
    force = (mass * LOGOLD.exp() * FORMS[name][1](now - old, ref - old)).detach()
    assert off_by(gradient(whole), gradient(lambda logp: -(force * logp).sum())) < 1e-12


def test_k1_k2_k3_have_the_values_of_their_table() -> None:
    x = torch.tensor([-1.0, 0.0, 0.5, 3.0], dtype=torch.float64)  # log p/q
    np.testing.assert_allclose(d.k1(x), [-1.0, 0.0, 0.5, 3.0])
    np.testing.assert_allclose(d.k2(x), [0.5, 0.0, 0.125, 4.5])
    np.testing.assert_allclose(d.k3(x), np.exp(-x.numpy()) - 1 + x.numpy(), rtol=1e-12)
    np.testing.assert_allclose(d.k3(torch.tensor([-30.0, -1000.0])), [np.exp(20) - 31, np.exp(20) - 1001], rtol=1e-6)


def test_k1_and_k3_are_unbiased_for_the_divergence_and_k2_is_not() -> None:
    logp = THETA.log_softmax(0)
    truth = (logp.exp() * (logp - LOGREF)).sum()
    means = {k.__name__: float((logp.exp() * k(logp - LOGREF)).sum() - truth) for k in (d.k1, d.k2, d.k3)}
    assert abs(means["k1"]) < 1e-14
    assert abs(means["k3"]) < 1e-14
    assert abs(means["k2"]) > 1e-2


def test_on_policy_the_estimators_as_losses_have_the_gradients_of_the_table() -> None:
    pi = THETA.softmax(0)
    found = {k.__name__: gradient(lambda logp, k=k: (pi * k(logp - LOGREF)).sum()) for k in (d.k1, d.k2, d.k3)}
    assert off_by(found["k1"], torch.zeros(5)) < 1e-14, "k1 as a loss is pure noise"
    assert off_by(found["k2"], reverse_kl(LOGREF)) < 1e-14
    assert off_by(found["k3"], forward_kl(LOGREF)) < 1e-14, "the forward divergence, whose value it does not have"
    assert off_by(found["k3"], reverse_kl(LOGREF)) > 1e-2


def test_off_policy_the_unweighted_estimators_have_neither_gradient() -> None:
    old = LOGOLD.exp()
    found = {k.__name__: gradient(lambda logp, k=k: (old * k(logp - LOGREF)).sum()) for k in (d.k1, d.k2, d.k3)}
    assert off_by(found["k1"], -forward_kl(LOGOLD)) < 1e-14, "k1 as a loss drives pi away from the sampler"
    for name in ("k2", "k3"):
        assert off_by(found[name], forward_kl(LOGREF)) > 1e-2
        assert off_by(found[name], reverse_kl(LOGREF)) > 1e-2


def test_off_policy_weights_give_one_gradient_attached_and_the_other_detached() -> None:
    old = LOGOLD.exp()

    def weighted(k: Callable[[Tensor], Tensor], attached: bool) -> Tensor:
        weigh = d.attached if attached else d.detached
        return gradient(lambda logp: (old * weigh(k(logp - LOGREF), logp - LOGOLD)).sum())

    for k in (d.k1, d.k3):
        assert off_by(weighted(k, attached=True), reverse_kl(LOGREF)) < 1e-14
    assert off_by(weighted(d.k2, attached=False), reverse_kl(LOGREF)) < 1e-14
    assert off_by(weighted(d.k3, attached=False), forward_kl(LOGREF)) < 1e-14
    for target in (reverse_kl(LOGREF), forward_kl(LOGREF)):
        assert off_by(weighted(d.k2, attached=True), target) > 1e-2


def test_the_exact_divergence_is_the_sum_over_the_vocabulary() -> None:
    p, q = THETA.softmax(0).numpy(), REF.softmax(0).numpy()
    np.testing.assert_allclose(d.exact(THETA[None], REF[None]), [(p * np.log(p / q)).sum()], rtol=1e-12)
    blocked = torch.tensor([[0.0, 0.0, -torch.inf]])
    np.testing.assert_allclose(d.exact(blocked, torch.zeros(1, 3)), [np.log(3 / 2)], rtol=1e-6)


def test_the_differentiable_ones_have_the_right_gradient() -> None:
    lw, lu = (torch.linspace(-2, 2, 5, dtype=torch.float64).requires_grad_(), LOGREF.clone().requires_grad_())
    for value, _ in FORMS.values():
        assert gradcheck(value, (lw, lu))
    for k in (d.k1, d.k2, d.k3):
        assert gradcheck(k, lw)
    assert gradcheck(d.attached, (lu, lw))
    assert gradcheck(lambda estimate: d.detached(estimate, lw.detach()), lu)
    rows = THETA[None].clone().requires_grad_(), REF[None].clone().requires_grad_()
    assert gradcheck(d.exact, rows)


@settings(max_examples=50, deadline=None)
@given(st.lists(WIDE, min_size=1, max_size=4))
def test_k2_and_k3_are_never_negative(gaps: list[float]) -> None:
    at = torch.tensor(gaps, dtype=torch.float64)
    assert (d.k2(at) >= 0).all()
    assert (d.k3(at) >= -1e-15).all()


def test_weighted_estimates_are_the_ratio_times_the_estimate_and_the_tables_have_every_name() -> None:
    estimate, lw = torch.tensor([0.5, 2.0, 3.0]), torch.tensor([0.0, 1.0, 99.0])
    for weigh in (d.attached, d.detached):
        np.testing.assert_allclose(weigh(estimate, lw), [0.5, 2 * np.e, 3 * np.exp(20)], rtol=1e-6)
    assert dict(d.FORMS) == FORMS
    assert dict(d.ESTIMATORS) == {"k1": d.k1, "k2": d.k2, "k3": d.k3}
