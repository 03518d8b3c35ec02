"""How far a reward model's probabilities can be believed, against lines of NumPy, cases known by hand, and its law."""

from __future__ import annotations

import math

import numpy as np
import pytest

from klimb.evaluation.calibration import Bin, calibrated
from klimb.evaluation.disagreement import compare
from klimb.evaluation.opinions import Opinion
from klimb.types import Score


def by_numpy(gaps: np.ndarray) -> tuple[float, float]:
    sure = 1 / (1 + np.exp(-np.abs(gaps)))
    right = np.where(gaps == 0, 0.5, gaps > 0)
    bins = np.minimum(((sure - 0.5) * 20).astype(int), 9)
    apart = [abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(np.log1p(np.exp(-gaps)).mean()), float(np.sum(apart))


def drawn(n: int, seed: int, factor: float = 1.0) -> np.ndarray:
    """Gaps whose stated log-odds are `factor` times the true ones."""
    rng = np.random.default_rng(seed)
    size = np.abs(rng.normal(0.0, 2.0, n))
    return np.where(rng.random(n) < 1 / (1 + np.exp(-size / factor)), size, -size)


def test_the_formulas_are_those_of_numpy_and_the_bins_add_up_to_them() -> None:
    gaps = np.random.default_rng(0).normal(0.4, 2.0, 200)
    found = calibrated(gaps.tolist())
    assert (found.loss, found.error) == pytest.approx(by_numpy(gaps), rel=1e-12)
    assert sum(one.pairs for one in found.bins) == 200 and found == calibrated(gaps.tolist())
    assert sum(one.pairs * abs(one.sure - one.right) for one in found.bins) / 200 == pytest.approx(found.error)
    assert 0 <= found.low <= found.error <= found.high


def test_who_knows_nothing_is_calibrated_and_who_is_sure_of_what_is_wrong_is_not() -> None:
    nothing = calibrated([0.0] * 6)
    assert (nothing.loss, nothing.bins) == (pytest.approx(math.log(2)), (Bin(6, 0.5, 0.5),))
    assert (nothing.error, nothing.low, nothing.high, nothing.chance) == (0.0, 0.0, 0.0, 0.0)
    wrong = calibrated([-800.0, -800.0, 800.0, 800.0])
    assert (wrong.error, wrong.loss, wrong.chance) == (0.5, 400.0, 0.0)
    assert wrong.low == 0.0 and wrong.high == 1.0
    with pytest.raises(ValueError, match="no pairs"):
        calibrated([])


def test_of_true_probabilities_the_interval_begins_at_zero_and_the_error_is_that_of_chance() -> None:
    found = [calibrated(drawn(100, seed).tolist()) for seed in range(60)]
    assert sum(one.low == 0 for one in found) >= 56
    errors, chance = np.mean([one.error for one in found]), np.mean([one.chance for one in found])
    assert errors > 0.06 and chance == pytest.approx(errors, rel=0.1)


def test_the_interval_holds_the_error_of_a_model_that_is_too_sure() -> None:
    size = np.abs(np.random.default_rng(9).normal(0.0, 2.0, 400_000))
    sure, right = 1 / (1 + np.exp(-size)), 1 / (1 + np.exp(-size / 2))
    bins = np.minimum(((sure - 0.5) * 20).astype(int), 9)
    true = np.abs(np.bincount(bins, sure - right)).sum() / len(size)
    found = [calibrated(drawn(300, seed, 2.0).tolist()) for seed in range(60)]
    assert sum(one.low <= true <= one.high for one in found) >= 50
    assert sum(one.low > 0 for one in found) >= 40 and np.mean([one.high - one.low for one in found]) < 0.12


def test_the_interval_resamples_prompts_where_they_are_named() -> None:
    gaps = drawn(200, 0, 4.0)
    alone, named = calibrated(gaps.tolist()), calibrated(gaps.tolist(), [f"p{n}" for n in range(200)])
    assert (named.error, named.bins) == (alone.error, alone.bins)
    assert abs(named.low - alone.low) < 0.03 and abs(named.high - alone.high) < 0.03
    same = np.repeat(drawn(20, 1, 4.0), 10)
    few = calibrated(same.tolist(), [f"p{n // 10}" for n in range(200)])
    many = calibrated(same.tolist())
    assert few.low < many.low - 0.05 and few.error == many.error


def test_a_table_of_sources_has_the_calibration_of_those_that_state_log_odds() -> None:
    gaps = drawn(50, 3)
    scores = tuple(Score.of(gap / 4 + 1) for gap in gaps)
    one, other = (Opinion(name, scores, (Score.of(1.0),) * 50, 0.1, unit) for name, unit in (("a", 4.0), ("b", None)))
    first, second = compare([one, other], [f"p{n}" for n in range(50)]).rows
    assert first.calibration is not None and second.calibration is None
    assert first.calibration.error == pytest.approx(calibrated(gaps.tolist()).error, abs=1e-12)
