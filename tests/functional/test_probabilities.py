"""Log-probabilities, entropies and importance ratios, against NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from klimb import functional as F

DRAW = torch.Generator().manual_seed(0)
LOGITS = torch.randn(5, 4, generator=DRAW, dtype=torch.float64) * 3
TOKENS = torch.tensor([0, 3, 1, 1, 2])
ROW = torch.tensor([0, 0, 0, 2, 2])
LEARN = torch.tensor([True, True, False, True, True])
GAPS = torch.tensor([0.5, -1.0, 9.0, 0.25, 0.5], dtype=torch.float64)


def probabilities(logits: torch.Tensor) -> np.ndarray:
    raised = np.exp(logits.double().numpy())
    return raised / raised.sum(-1, keepdims=True)


def test_the_log_probability_of_a_token_is_the_log_of_its_softmax() -> None:
    expected = np.log(probabilities(LOGITS)[np.arange(5), TOKENS.numpy()])
    np.testing.assert_allclose(F.logprobs.of_tokens(LOGITS, TOKENS), expected, atol=1e-14)


def test_log_probabilities_and_entropies_have_the_right_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    assert gradcheck(lambda x: F.logprobs.of_tokens(x, TOKENS), logits)
    assert gradcheck(F.entropy.of_logits, logits)


def test_half_precision_logits_are_widened_before_anything_is_computed() -> None:
    rounded = LOGITS.bfloat16()
    for values in (F.logprobs.of_tokens(rounded, TOKENS), F.entropy.of_logits(rounded)):
        assert values.dtype == torch.float32
    expected = np.log(probabilities(rounded)[np.arange(5), TOKENS.numpy()])
    np.testing.assert_allclose(F.logprobs.of_tokens(rounded, TOKENS), expected, rtol=1e-5)


def test_entropy_is_that_of_the_distribution() -> None:
    p = probabilities(LOGITS)
    np.testing.assert_allclose(F.entropy.of_logits(LOGITS), -(p * np.log(p)).sum(-1), atol=1e-14)


def test_entropy_of_tokens_that_cannot_be_drawn_is_of_the_others() -> None:
    logits = torch.tensor([[0.0, 0.0, -math.inf, -math.inf], [7.0, -math.inf, -math.inf, -math.inf]])
    np.testing.assert_allclose(F.entropy.of_logits(logits), [math.log(2), 0.0], atol=1e-7)


def test_entropy_is_never_negative_and_its_gradient_is_finite_for_a_certain_token() -> None:
    logits = torch.tensor([[1000.0, -1000.0, 0.0, 3.0]] * 3, dtype=torch.bfloat16).float().requires_grad_()
    entropy = F.entropy.of_logits(logits)
    entropy.sum().backward()
    assert entropy.min() >= 0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@settings(deadline=None)
@given(st.floats(-80, 80), st.floats(-80, 80))
def test_a_ratio_is_the_exponential_within_twenty_and_never_overflows(x: float, y: float) -> None:
    for dtype in (torch.float32, torch.float64):
        ratio = F.importance.ratio(torch.tensor([x, y], dtype=dtype))
        np.testing.assert_allclose(ratio, np.exp(np.clip([x, y], -20, 20)), rtol=2e-6)


def test_a_ratio_has_its_own_value_as_gradient_inside_and_none_beyond_the_clamp() -> None:
    gaps = torch.tensor([-21.0, -1.0, 0.0, 2.0, 21.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(F.importance.ratio(gaps).sum(), gaps)
    np.testing.assert_allclose(gradient, [0.0, math.exp(-1), 1.0, math.exp(2), 0.0], rtol=1e-14)


def test_the_sequence_ratio_is_the_product_over_learning_tokens_of_the_row() -> None:
    product = F.importance.product(GAPS, LEARN, ROW, 3).exp()
    np.testing.assert_allclose(product, [math.exp(0.5) * math.exp(-1)] * 3 + [math.exp(0.25) * math.exp(0.5)] * 2)


def test_the_geometric_ratio_is_the_root_of_the_sequence_ratio() -> None:
    geometric = F.importance.geometric(GAPS, LEARN, ROW, 3).exp()
    roots = [math.sqrt(math.exp(0.5 - 1))] * 3 + [math.sqrt(math.exp(0.25 + 0.5))] * 2
    np.testing.assert_allclose(geometric, roots)


def test_a_token_that_does_not_learn_gets_no_gradient_through_its_row() -> None:
    for level in (F.importance.product, F.importance.geometric):
        gaps = GAPS.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(level(gaps, LEARN, ROW, 3).sum(), gaps)
        assert gradient[2] == 0
        assert (gradient[LEARN] > 0).all()
        assert gradcheck(lambda x, level=level: level(x, LEARN, ROW, 3), gaps)


@pytest.mark.parametrize(
    "formula",
    [
        F.importance.ratio,
        lambda x: F.segments.sum_by(x, ROW, 3),
        lambda x: F.segments.mean_by(x, LEARN, ROW, 3),
        lambda x: F.segments.running_sum(x, ROW, 3),
        lambda x: F.weighting.total(x, torch.tensor([0.5, 0.0, 2.0, -1.0, 0.25], dtype=torch.float64)),
    ],
    ids=["ratio", "sum_by", "mean_by", "running_sum", "total"],
)
def test_ratios_and_sums_have_the_gradient_of_their_difference_quotients(formula: Callable[[Tensor], Tensor]) -> None:
    assert gradcheck(formula, GAPS.clone().requires_grad_())


def test_truncated_weights_stop_at_the_cap_and_carry_no_gradient() -> None:
    gaps = torch.tensor([-1.0, 0.0, 0.6, 0.7, 50.0], requires_grad=True)
    weight = F.importance.truncated(gaps, 2.0)
    np.testing.assert_allclose(weight, [math.exp(-1), 1.0, math.exp(0.6), 2.0, 2.0], rtol=1e-6)
    assert not weight.requires_grad


def test_masked_weights_are_zero_outside_their_interval_and_carry_no_gradient() -> None:
    gaps = torch.tensor([0.5, 0.4999, 1.0, 2.0, 2.001], dtype=torch.float64).log().requires_grad_()
    weight = F.importance.masked(gaps, 0.5, 2.0)
    np.testing.assert_allclose(weight, [0.5, 0.0, 1.0, 2.0, 0.0], rtol=1e-12)
    assert not weight.requires_grad


def test_a_misspelt_formula_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no 'entropie'"):
        _ = F.entropie


def test_a_straight_ratio_has_the_rows_value_and_the_tokens_gradient() -> None:
    value, logp = torch.tensor([0.5, 3.0]).requires_grad_(), torch.tensor([-1.0, -2.0]).requires_grad_()
    found = F.importance.straight(value, logp)
    slopes = torch.autograd.grad(found.sum(), (value, logp), allow_unused=True)
    assert found.tolist() == [0.5, 3.0]
    assert slopes[0] is None
    assert slopes[1].tolist() == [0.5, 3.0]
