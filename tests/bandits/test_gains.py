"""Gains: the paper's scaling, its blindness without a window, and what is no gain at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from klimb.bandits.gains import (
    AnyGain,
    Gain,
    HeldOut,
    LossDecrease,
    Margin,
    NegativeLoss,
    Seen,
    no_history,
    quantile_scaled,
    saturated,
)  # fmt: skip


def over(gain: Gain, losses: list[float]) -> list[float | None]:
    history, found = no_history(), []
    for loss in losses:
        history, value = gain.measure(history, Seen(loss=loss))
        found.append(value)
    return found


def test_the_paper_scales_by_quantiles_of_all_history_with_the_newest_in_it() -> None:
    losses = np.random.default_rng(0).uniform(0.5, 2.5, 30)
    found = over(NegativeLoss(window=None), losses.tolist())
    for step in range(1, 30):
        low, high = np.quantile(-losses[: step + 1], [0.2, 0.8])
        np.testing.assert_allclose(found[step], np.clip((-losses[step] - low) / (high - low), 0, 1), atol=1e-12)


def test_the_first_gain_and_equal_gains_are_one_half_and_a_departure_from_them_is_not() -> None:
    assert over(NegativeLoss(), [2.0, 2.0, 2.0]) == [0.5, 0.5, 0.5]
    same = [1.0] * 10
    assert over(NegativeLoss(), [*same, 0.5])[-1] == 1.0
    assert over(NegativeLoss(), [*same, 1.5])[-1] == 0.0


def test_a_window_tells_arms_apart_while_the_loss_falls_and_the_whole_history_does_not() -> None:
    rng = np.random.default_rng(1)
    arms = rng.integers(0, 4, 400)
    losses = np.linspace(2.5, 0.8, 400) + 0.1 * arms + 0.02 * rng.standard_normal(400)
    late = slice(200, 400)
    spread = {}
    for window in (None, 50):
        gains = np.array(over(NegativeLoss(window=window), losses.tolist()), float)[late]
        means = [gains[arms[late] == arm].mean() for arm in range(4)]
        spread[window] = means[0] - means[3]
        assert (saturated(gains) > 0.9) == (window is None)
    assert spread[None] < 0.05 and spread[50] > 0.4


def test_only_the_window_is_remembered() -> None:
    history = no_history()
    for loss in range(10):
        history, _ = NegativeLoss(window=4).measure(history, Seen(loss=float(loss)))
    assert history.raw.tolist() == [-6.0, -7.0, -8.0, -9.0]


def test_loss_decrease_reads_the_loss_before_and_after() -> None:
    gain, history = LossDecrease(), no_history()
    for before, after in ((2.0, 1.5), (1.0, 0.9), (3.0, 3.1)):
        history, value = gain.measure(history, Seen(loss=before, after=after))
    np.testing.assert_allclose(history.raw, [0.5, 0.1, -0.1])
    assert value == 0.0
    assert gain.measure(history, Seen(loss=1.0)) == (history, None)


def test_a_held_out_gain_is_the_rise_since_the_last_measure() -> None:
    gain, history = HeldOut(), no_history()
    history, first = gain.measure(history, Seen(held_out=0.3))
    assert first is None and history.last.tolist() == [0.3]
    for measure in (0.5, 0.4):
        history, value = gain.measure(history, Seen(held_out=measure))
    np.testing.assert_allclose(history.raw, [0.2, -0.1])
    assert value == 0.0
    history, nothing = gain.measure(history, Seen(loss=1.0))
    assert nothing is None and history.last.tolist() == [0.4]


@pytest.mark.parametrize("loss", [None, np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_no_gain_and_leaves_no_trace(loss: float | None) -> None:
    history, _ = NegativeLoss().measure(no_history(), Seen(loss=1.0))
    following, value = NegativeLoss().measure(history, Seen(loss=loss, held_out=loss))
    assert value is None and following.raw.tolist() == [-1.0] and len(following.last) == 0


def test_quantiles_out_of_order_are_a_fault() -> None:
    assert NegativeLoss().faults() == []
    assert "low=0.9 below high=0.8" in NegativeLoss(low=0.9).faults()[0].line()


def test_settings_of_a_type_make_that_gain() -> None:
    assert TypeAdapter(AnyGain).validate_python({"type": "held_out", "window": None}) == HeldOut(window=None)


def test_saturation_is_the_share_at_either_end() -> None:
    assert saturated(np.array([0.0, 1.0, 0.5, 0.7])) == 0.5
    assert saturated(np.zeros(0)) == 0.0


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_any_finite_history_gives_a_gain_within_zero_and_one(raw: list[float]) -> None:
    with np.errstate(over="raise", invalid="raise"):
        assert 0.0 <= quantile_scaled(raw[-1], np.array(raw), 0.2, 0.8) <= 1.0


def test_a_margin_between_answers_is_its_own_scale() -> None:
    assert [Margin().measure(no_history(), Seen(margin=margin))[1] for margin in (-1.0, 0.0, 0.5)] == [0.0, 0.5, 0.75]
