"""The critic's formulas: GAE against its definition, rewards on last tokens, value losses, explained variance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from klimb import functional as F

V = F.value
NUMBER = st.floats(-(2.0**50), 2.0**50, width=32)
TOKENS = st.lists(st.tuples(NUMBER, NUMBER, st.booleans(), st.integers(0, 4)), min_size=1, max_size=20)
SHARE = st.floats(0, 1)


def wide(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def columns(tokens: list[tuple[float, float, bool, int]]) -> tuple[torch.Tensor, ...]:
    """Rewards and values in float64, what learns, and rows in order."""
    reward, value, learn, row = (
        torch.tensor(column) for column in zip(*sorted(tokens, key=lambda t: t[3]), strict=True)
    )
    return reward.double(), value.double(), learn, row


def by_definition(reward: np.ndarray, value: np.ndarray, gamma: float, lam: float) -> np.ndarray:
    """sum_l (gamma lam)^l delta_{t+l} of one row, every sum written out."""
    delta = reward + gamma * np.append(value[1:], 0.0) - value
    return np.array([sum((gamma * lam) ** k * d for k, d in enumerate(delta[t:])) for t in range(len(delta))])


@settings(max_examples=60, deadline=None)
@given(TOKENS, SHARE, SHARE)
def test_gae_is_its_definition_over_the_learning_tokens_of_each_row(
    tokens: list[tuple[float, float, bool, int]], gamma: float, lam: float
) -> None:
    reward, value, learn, row = columns(tokens)
    found = V.gae(reward, value, learn, row, 5, gamma, lam)
    assert (found[~learn] == 0).all()
    scale = max(1.0, float(reward.abs().max()), float(value.abs().max()))
    for r in range(5):
        here = learn & (row == r)
        wanted = by_definition(reward[here].numpy(), value[here].numpy(), gamma, lam)
        np.testing.assert_allclose(found[here], wanted, rtol=1e-9, atol=1e-12 * scale)


def test_gae_of_three_tokens_worked_by_hand() -> None:
    reward, value = wide(0.0, 0.0, 1.0), wide(0.5, 0.25, 0.75)
    found = V.gae(reward, value, torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.int64), 1, 0.5, 0.5)
    last = 1.0 - 0.75
    middle = 0.5 * 0.75 - 0.25 + 0.25 * last
    first = 0.5 * 0.25 - 0.5 + 0.25 * middle
    assert found.tolist() == [first, middle, last]


@settings(max_examples=40, deadline=None)
@given(TOKENS)
def test_with_lambda_one_it_is_the_reward_to_go_less_the_value_and_with_zero_one_step(
    tokens: list[tuple[float, float, bool, int]],
) -> None:
    reward, value, learn, row = columns(tokens)
    reward, value = torch.tanh(reward), torch.tanh(value)
    whole, step = (V.gae(reward, value, learn, row, 5, 1.0, lam) for lam in (1.0, 0.0))
    for r in range(5):
        here = learn & (row == r)
        to_go = reward[here].flip(0).cumsum(0).flip(0)
        torch.testing.assert_close(V.returns(whole, value)[here], to_go, rtol=1e-12, atol=1e-12)
        following = torch.cat([value[here][1:], wide(0.0)])[: int(here.sum())]
        torch.testing.assert_close(step[here], reward[here] + following - value[here], rtol=0, atol=0)


@settings(max_examples=40, deadline=None)
@given(TOKENS, NUMBER)
def test_a_masked_token_changes_nothing(tokens: list[tuple[float, float, bool, int]], other: float) -> None:
    reward, value, learn, row = columns(tokens)
    noise = torch.full_like(value, other)
    found = V.gae(reward, value, learn, row, 5, 0.9, 0.8)
    changed = V.gae(torch.where(learn, reward, noise), torch.where(learn, value, noise), learn, row, 5, 0.9, 0.8)
    assert torch.equal(found, changed)
    alone = V.gae(reward[learn], value[learn], learn[learn], row[learn], 5, 0.9, 0.8)
    assert torch.equal(found[learn], alone)


@settings(max_examples=40, deadline=None)
@given(TOKENS, SHARE, SHARE)
def test_no_reward_or_value_in_single_precision_gives_what_is_not_a_number(
    tokens: list[tuple[float, float, bool, int]], gamma: float, lam: float
) -> None:
    reward, value, learn, row = columns(tokens)
    reward, value = reward.float(), value.float()
    found = V.gae(reward, value, learn, row, 5, gamma, lam)
    target = V.returns(found, value)
    loss = V.clipped(value + 1, value, target, 0.2)
    assert found.dtype == torch.float32
    assert torch.isfinite(torch.stack([found, target, loss, V.squared(value, target)])).all()
    share = V.explained_variance(value, target, learn)
    assert not share.isinf()


def test_no_tokens_at_all_have_no_advantage() -> None:
    none, nowhere = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert V.gae(none, none, none.bool(), nowhere, 0, 1.0, 1.0).shape == (0,)
    assert V.gae(none, none, none.bool(), nowhere, 3, 1.0, 1.0).shape == (0,)
    assert torch.isnan(V.explained_variance(none, none, none.bool()))


def test_the_reward_stands_on_the_last_learning_token_of_its_row() -> None:
    learn = torch.tensor([True, True, False, True, False, False, True])
    row = torch.tensor([0, 0, 0, 1, 2, 2, 4])
    assert V.left(learn, row, 5)[learn].tolist() == [1, 0, 0, 0]
    assert V.at_last(wide(1.0, 2.0, 3.0, 4.0, 5.0), learn, row).tolist() == [0, 1.0, 0, 2.0, 0, 0, 5.0]


EPS = 0.2
# value, old, target, live?  The clipped value is old +- 0.2.
REGIONS = [
    (0.1, 0.0, 1.0, True),  # inside
    (0.2, 0.0, 1.0, False),  # at the bound
    (0.5, 0.0, 1.0, False),  # moved towards the target by more than eps
    (-0.5, 0.0, 1.0, True),  # moved away: V is the farther one
    (0.5, 0.0, 0.3, True),  # beyond the target, and farther from it than the clipped value
    (0.35, 0.0, 0.3, False),  # beyond the target, yet nearer than the clipped value
    (-0.1, 0.0, -1.0, True),
    (-0.2, 0.0, -1.0, False),
    (-0.5, 0.0, -1.0, False),
    (0.5, 0.0, -1.0, True),
]


@pytest.mark.parametrize(("value", "old", "target", "live"), REGIONS)
def test_the_clipped_value_loss_is_the_larger_one_and_flows_in_exactly_these_regions(
    value: float, old: float, target: float, live: bool
) -> None:
    leaf = wide(value).requires_grad_()
    loss = V.clipped(leaf, wide(old), wide(target), EPS)
    near = old + float(np.clip(value - old, -EPS, EPS))
    assert loss.item() == pytest.approx(0.5 * max((value - target) ** 2, (near - target) ** 2), abs=1e-15)
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    assert gradient.item() == pytest.approx(value - target if live else 0.0, abs=1e-15)
    assert V.clipped_live(wide(value), wide(old), wide(target), EPS).tolist() == [live]


def test_the_value_losses_have_the_right_gradient_and_take_the_target_as_a_constant() -> None:
    value, old, target = wide(0.1, 0.5, -0.5, 0.5, 0.35), wide(0, 0, 0, 0, 0), wide(1, 1, 1, 0.3, 0.3)
    value.requires_grad_()
    assert gradcheck(lambda v: V.squared(v, target), value)
    assert gradcheck(lambda v: V.clipped(v, old, target, EPS), value)
    leaf = target.clone().requires_grad_()
    for loss in (V.squared(value, leaf), V.clipped(value, old, leaf, EPS)):
        assert torch.autograd.grad(loss.sum(), leaf, allow_unused=True) == (None,)
    np.testing.assert_allclose(V.squared(value, target).detach(), (value.detach() - target).numpy() ** 2 / 2)


def test_the_explained_variance_is_one_for_the_returns_zero_for_a_constant_and_negative_for_worse() -> None:
    target, learn = wide(1.0, 2.0, 4.0, 99.0), torch.tensor([True, True, True, False])
    chosen = target[learn].numpy()
    assert V.explained_variance(target, target, learn).item() == 1.0
    assert V.explained_variance(torch.full_like(target, 7.0), target, learn).item() == 0.0
    assert V.explained_variance(-target, target, learn).item() == pytest.approx(-3.0)
    value = wide(0.5, 2.5, 3.0, 0.0)
    wanted = 1 - np.var(chosen - value[learn].numpy()) / np.var(chosen)
    assert V.explained_variance(value, target, learn).item() == pytest.approx(wanted, rel=1e-12)


def test_where_the_returns_do_not_vary_there_is_no_explained_variance() -> None:
    everyone = torch.ones(3, dtype=torch.bool)
    assert torch.isnan(V.explained_variance(wide(1, 2, 3), wide(0.1, 0.1, 0.1), everyone))
