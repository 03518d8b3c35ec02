"""Intervals, against values worked out elsewhere and against their own promise."""

from __future__ import annotations

import numpy as np
import pytest

from klimb.evaluation.intervals import normal, paired_bootstrap, wilson


@pytest.mark.parametrize(("right", "n"), [(0, 10), (1, 10), (5, 10), (13, 256), (256, 256), (200, 256)])
def test_the_wilson_interval_is_that_of_scipy(right: int, n: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(right, n).proportion_ci(0.95, "wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_interval_of_nothing_is_everything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_more_right_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="3 right of 2"):
        wilson(3, 2)


def test_the_normal_interval_is_that_of_the_mean_and_its_standard_error() -> None:
    values = [1.0, 2.0, 4.0, 9.0]
    half = 1.96 * float(np.std(values, ddof=1)) / 2
    assert normal(values) == pytest.approx((4.0, 4.0 - half, 4.0 + half), abs=1e-12)
    assert normal([3.0]) == (3.0, 3.0, 3.0)
    with pytest.raises(ValueError, match="no values"):
        normal([])


def test_the_bootstrap_agrees_with_the_normal_interval_on_many_problems() -> None:
    random = np.random.default_rng(0)
    before = (random.random(2000) < 0.2).astype(float)
    after = np.where(random.random(2000) < 0.3, 1.0, before)
    found = paired_bootstrap(before.tolist(), after.tolist())
    change = after - before
    half = 1.96 * change.std() / np.sqrt(len(change))
    assert found.mean == pytest.approx(change.mean())
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.002)


def test_pairing_makes_a_small_steady_gain_sure() -> None:
    before = [0.0] * 100 + [1.0] * 100
    after = [1.0] * 10 + [0.0] * 90 + [1.0] * 100
    found = paired_bootstrap(before, after)
    assert (found.mean, found.n) == (0.05, 200)
    assert 0 < found.low < 0.05 < found.high < 0.1


def test_the_same_scores_give_the_same_interval() -> None:
    assert paired_bootstrap([0, 1, 0], [1, 1, 0]) == paired_bootstrap([0, 1, 0], [1, 1, 0])


def test_no_change_is_no_gain_without_doubt() -> None:
    found = paired_bootstrap([0, 1, 1], [0, 1, 1])
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="1 scores before and 2 after"):
        paired_bootstrap([1], [1, 0])
