"""Advantages and weights: only scored rows and learning tokens enter, and nothing is ever NaN."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from klimb import functional as F

A, W = F.advantage, F.weighting
BASELINES = [A.uncentred, A.batch_mean, A.group_mean, A.leave_one_out, A.z_score]
REWARD = torch.tensor([1.0, 0.0, 0.5, 3.0, -2.0, 7.0, 4.0], dtype=torch.float64)
SCORED = torch.tensor([True, True, True, True, False, True, False])
GROUP = torch.tensor([0, 0, 0, 1, 1, 1, 2])
SOME = st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.booleans(), st.integers(0, 3)), min_size=1, max_size=12)


def plain(name: str, reward: float, mine: list[float], everyone: list[float]) -> float:
    """One row's advantage in plain Python; `mine` are the scored rewards of its group."""
    others = list(mine)
    others.remove(reward)
    return {
        "uncentred": lambda: reward,
        "batch_mean": lambda: reward - statistics.fmean(everyone),
        "group_mean": lambda: reward - statistics.fmean(mine),
        "leave_one_out": lambda: reward - statistics.fmean(others) if others else 0.0,
        "z_score": lambda: (reward - statistics.fmean(mine)) / (statistics.stdev(mine) + 1e-6) if others else 0.0,
    }[name]()


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda f: f.__name__)
def test_each_advantage_is_its_formula_over_the_scored_rows(baseline: object) -> None:
    found = baseline(REWARD, SCORED, GROUP, 3)  # type: ignore[operator]
    scored = [float(r) for r, s in zip(REWARD, SCORED, strict=True) if s]
    for i, (reward, counts) in enumerate(zip(REWARD.tolist(), SCORED.tolist(), strict=True)):
        mine = REWARD[SCORED & (GROUP[i].item() == GROUP)].tolist()
        expected = plain(baseline.__name__, reward, mine, scored) if counts else 0.0  # type: ignore[attr-defined]
        assert found[i].item() == pytest.approx(expected, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(SOME)
def test_advantages_are_finite_and_zero_for_rows_without_a_score(rows: list[tuple[float, bool, int]]) -> None:
    reward, scored, group = (torch.tensor(column) for column in zip(*rows, strict=True))
    for baseline in BASELINES:
        found = baseline(reward, scored, group, 4)
        assert torch.isfinite(found).all()
        assert (found[~scored] == 0).all()
        assert found.dtype == reward.dtype


@settings(max_examples=50, deadline=None)
@given(SOME, st.floats(-1e6, 1e6, width=32))
def test_a_row_without_a_score_never_changes_the_others(rows: list[tuple[float, bool, int]], other: float) -> None:
    reward, scored, group = (torch.tensor(column) for column in zip(*rows, strict=True))
    for baseline in BASELINES:
        replaced = torch.where(scored, reward, torch.full_like(reward, other))
        whole, changed = baseline(reward, scored, group, 4), baseline(replaced, scored, group, 4)
        assert torch.equal(whole, changed)
        if scored.any():
            alone = baseline(reward[scored], scored[scored], group[scored], 4)
            np.testing.assert_allclose(whole[scored], alone, rtol=1e-6, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.floats(-(2.0**100), 2.0**100, width=32), st.integers(1, 9))
def test_equal_rewards_give_exactly_zero(reward: float, size: int) -> None:
    rewards = torch.full((size,), reward)
    for baseline in (A.batch_mean, A.group_mean, A.leave_one_out, A.z_score):
        found = baseline(rewards, torch.ones(size, dtype=torch.bool), torch.zeros(size, dtype=torch.int64), 1)
        assert (found == 0).all()


def test_an_empty_batch_has_no_advantage_and_no_weight() -> None:
    none, nowhere = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    for baseline in BASELINES:
        assert baseline(none, none.bool(), nowhere, 0).shape == (0,)
    for weight in (
        W.token_mean(none.bool()),
        W.row_mean(none.bool(), nowhere, 0),
        W.constant(none.bool(), nowhere, 0, 9),
    ):
        assert weight.shape == (0,)


def test_the_mean_with_the_sample_in_it_shrinks_the_advantage_by_one_in_n() -> None:
    rewards, everyone = torch.tensor([1.0, 5.0, 0.0, 2.0]), torch.ones(4, dtype=torch.bool)
    group = torch.zeros(4, dtype=torch.int64)
    whole, others = (f(rewards, everyone, group, 1) for f in (A.group_mean, A.leave_one_out))
    np.testing.assert_allclose(whole, 3 / 4 * others, rtol=1e-6)


LEARN = torch.tensor([True, True, False, True, False, False, True])
ROW = torch.tensor([0, 0, 0, 1, 2, 2, 3])


def test_each_weight_is_its_formula() -> None:
    np.testing.assert_allclose(W.token_mean(LEARN), [0.25, 0.25, 0, 0.25, 0, 0, 0.25])
    np.testing.assert_allclose(W.row_mean(LEARN, ROW, 4), [1 / 6, 1 / 6, 0, 1 / 3, 0, 0, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(W.constant(LEARN, ROW, 4, 5), [1 / 15, 1 / 15, 0, 1 / 15, 0, 0, 1 / 15], rtol=1e-6)
    keep = torch.tensor([True, False, True, True, True, False, False])
    np.testing.assert_allclose(W.kept_mean(LEARN, keep), [0.5, 0, 0, 0.5, 0, 0, 0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=20))
def test_weights_sum_to_one_over_learning_tokens_or_to_zero(tokens: list[tuple[bool, int]]) -> None:
    learn, row = (torch.tensor(column) for column in zip(*sorted(tokens, key=lambda t: t[1]), strict=True))
    for weight in (W.token_mean(learn), W.row_mean(learn, row, 5), W.kept_mean(learn, learn)):
        assert weight.sum().item() == pytest.approx(float(learn.any()), abs=1e-6)
        assert (weight[~learn] == 0).all()
        assert (weight[learn] > 0).all()


def test_a_total_leaves_out_what_has_no_weight_even_when_it_is_not_a_number() -> None:
    values = torch.tensor([2.0, float("nan"), 4.0], requires_grad=True)
    total = W.total(values, torch.tensor([0.5, 0.0, 0.25]))
    (gradient,) = torch.autograd.grad(total, values)
    assert total.item() == 2.0
    assert gradient.tolist() == [0.5, 0.0, 0.25]


def test_segments_are_summed_averaged_and_searched_by_index() -> None:
    values, index = torch.tensor([3.0, 1.0, 2.0, 8.0]), torch.tensor([2, 0, 0, 2])
    mask = torch.tensor([True, True, False, True])
    s = F.segments

    def rows(found: Tensor) -> list[float]:
        return found.tolist()

    assert rows(s.sum_by(values, index, 4)) == [3.0, 0.0, 11.0, 0.0]
    assert rows(s.count_by(mask, index, 4)) == [1.0, 0.0, 2.0, 0.0]
    assert rows(s.mean_by(values, mask, index, 4)) == [1.0, 0.0, 5.5, 0.0]
    assert rows(s.least_by(values, mask, index, 4)) == [1.0, 0.0, 3.0, 0.0]
    assert rows(s.any_by(mask, index, 4)) == [True, False, True, False]
    assert rows(s.sum_over_row(values, mask, index, 4)) == [11.0, 1.0, 1.0, 11.0]
    assert rows(s.mean_over_row(values, mask, index, 4)) == [5.5, 1.0, 1.0, 5.5]


def test_whitened_advantages_have_mean_zero_and_variance_one_over_learning_tokens() -> None:
    advantage = torch.tensor([3.0, 1.0, 99.0, -2.0, 99.0, 99.0, 0.0], dtype=torch.float64)
    found = A.whitened(advantage, LEARN)
    chosen = advantage[LEARN].numpy()
    np.testing.assert_allclose(found[LEARN], (chosen - chosen.mean()) / chosen.std(), rtol=1e-12)
    assert (found[~LEARN] == 0).all()
    assert (A.whitened(torch.full((7,), 0.1), LEARN) == 0).all()
    assert (A.whitened(advantage, torch.zeros(7, dtype=torch.bool)) == 0).all()


def test_a_moving_baseline_is_taken_off_scored_rows_alone() -> None:
    found = A.moving(REWARD, SCORED, 0.25)
    np.testing.assert_allclose(found, np.where(SCORED, REWARD - 0.25, 0.0))


def test_what_is_still_to_come_is_summed_within_each_row_over_learning_tokens() -> None:
    values = torch.tensor([1.0, 2.0, 50.0, 4.0, 60.0, 70.0, 8.0], requires_grad=True)
    togo = F.segments.sum_to_go(values, LEARN, ROW, 4)
    np.testing.assert_allclose(togo.detach(), [3.0, 2.0, 0.0, 4.0, 0.0, 0.0, 8.0])
    assert togo.dtype == values.dtype
    assert torch.autograd.gradcheck(
        lambda x: F.segments.sum_to_go(x, LEARN, ROW, 4), values.detach().double().requires_grad_()
    )
    assert F.segments.sum_to_go(torch.zeros(0), LEARN[:0], ROW[:0], 0).shape == (0,)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-80, 80), st.booleans(), st.integers(0, 3)), min_size=1, max_size=12))
def test_the_sums_to_go_are_those_of_a_loop(rows: list[tuple[float, bool, int]]) -> None:
    rows = sorted(rows, key=lambda item: item[2])
    found = F.segments.sum_to_go(*(torch.tensor(column) for column in zip(*rows, strict=True)), 4)  # type: ignore[arg-type]
    for t, (_, learn, row) in enumerate(rows):
        rest = sum(value for value, counts, other in rows[t:] if counts and other == row)
        assert found[t].item() == pytest.approx(rest if learn else 0.0, abs=1e-3)


def test_numbers_carried_from_step_to_step_are_their_formulas() -> None:
    m = F.moving
    assert m.average(2.0, 6.0, 0.75) == 3.0
    assert m.unbiased(0.0, 0, 0.9) == 0.0
    total, values = 0.0, [1.0, 4.0, -2.0]
    for value in values:
        total = m.average(total, value, 0.5)
    weights = np.array([0.125, 0.25, 0.5])
    assert m.unbiased(total, 3, 0.5) == pytest.approx((weights * values).sum() / weights.sum())
    assert m.unbiased(m.average(0.0, 3.0, 0.9), 1, 0.9) == pytest.approx(3.0)
    for found, factor in ((0.1, 1.0), (0.11, 1.01), (0.09, 0.99), (9.0, 1.02), (0.0, 0.98)):
        assert m.proportional(0.5, found, 0.1, 0.1, 0.2) == pytest.approx(0.5 * factor)
