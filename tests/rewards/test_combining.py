"""Every way of combining scores beside a line of NumPy of its own; what has no score has no reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from klimb.errors import KlimbError
from klimb.rewards.combining import AnyCombining
from klimb.rewards.combining.base import Combiner, Opening
from klimb.rewards.combining.normalised import Moments, Scales
from klimb.rewards.total import combine
from klimb.types import Outcome, Prompt, Score

WEIGHTS = {"a": 1.0, "b": 0.5, "shown": 0.0, "c": -2.0}
VALUES = np.array([[0.1, 3.0, 9.0, 1.0], [0.7, -1.0, 9.0, 0.0], [0.1, 2.5, 9.0, -0.5], [0.4, 0.0, 9.0, 2.0]])
ARMS = VALUES[:, [0, 1, 3]]
W = np.array([1.0, 0.5, -2.0])
PROMPT = Prompt("p")
FAILED = Score(Outcome.TIMED_OUT, None, "too slow")
SETTINGS: TypeAdapter[Any] = TypeAdapter(AnyCombining)


def opened(weights: dict[str, float] | None = None, seed: int = 3, **settings: Any) -> Combiner:
    combiner: Combiner = SETTINGS.validate_python(settings).open(Opening(weights or WEIGHTS, seed))
    return combiner


def named(values: np.ndarray, failed: Sequence[tuple[int, str]] = ()) -> list[dict[str, Score]]:
    return [
        {name: FAILED if (row, name) in failed else Score.of(v) for name, v in zip(WEIGHTS, line, strict=True)}
        for row, line in enumerate(values.tolist())
    ]


def z(values: np.ndarray) -> np.ndarray:
    apart: np.ndarray = (values - values.mean(0)) / (values.std(0, ddof=1) + 1e-4)
    return apart


def copeland(values: np.ndarray, quorum: float) -> np.ndarray:
    n = len(values)
    out = np.zeros(n)
    for i in range(n):
        for j in range(n):
            if i != j:
                out[i] += int((values[i] > values[j]).mean() > quorum) - int((values[j] > values[i]).mean() > quorum)
    return out / (n - 1)


FORMULAS = {
    "weighted": ({"type": "weighted"}, ARMS @ W),
    "scheduled": (
        {"type": "scheduled", "points": {"b": {0: 0.0, 10: 2.0}, "shown": {5: 1.0}}}, ARMS @ [1.0, 1.0, -2.0] + 9.0),
    "gdpo": ({"type": "gdpo"}, z(ARMS) @ W),
    "gated": ({"type": "gated", "gates": {"shown": 9.0, "b": 0.0}, "otherwise": -7.0},
              np.where(VALUES[:, 1] >= 0, ARMS @ W, -7.0)),
    "mean": ({"type": "mean"}, ARMS.mean(1)),
    "mean of one scale": ({"type": "mean", "scale": "group"}, z(ARMS).mean(1)),
    "least": ({"type": "least"}, ARMS.min(1)),
    "uncertain": ({"type": "uncertain", "penalty": 0.3}, ARMS.mean(1) - 0.3 * ((ARMS.T - ARMS.mean(1)) ** 2).mean(0)),
    "agreement": ({"type": "agreement"}, copeland(ARMS, 0.5)),
    "agreement of all": ({"type": "agreement", "quorum": 0.9}, copeland(ARMS, 0.9)),
    "normalised": ({"type": "normalised"}, ((ARMS - ARMS.mean(0)) / ARMS.std(0)) @ W),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_the_formula_is_that_of_numpy(name: str) -> None:
    settings, wanted = FORMULAS[name]
    combiner = opened(**settings)
    (found,) = combiner.rewards(5, [PROMPT], [named(VALUES)])
    assert found == pytest.approx(wanted.tolist(), abs=1e-12)
    assert combiner.wanted(5, [PROMPT]) is None, "every source is asked"


def test_the_weighted_sum_has_the_bits_it_always_had() -> None:
    rows = named(np.random.default_rng(0).normal(size=(64, 4)))
    (found,) = opened(type="weighted").rewards(1, [PROMPT], [rows])
    assert found == [combine(row, WEIGHTS) for row in rows]


@pytest.mark.parametrize("name", FORMULAS)
def test_what_a_needed_source_could_not_score_has_no_reward_and_counts_for_nobody(name: str) -> None:
    settings, _ = FORMULAS[name]
    whole, part = opened(**settings), opened(**settings)
    (found,) = part.rewards(5, [PROMPT], [named(VALUES, [(1, "b")])])
    assert found.pop(1) is None
    (wanted,) = whole.rewards(5, [PROMPT], [named(np.delete(VALUES, 1, 0))])
    assert found == pytest.approx(wanted, abs=1e-12)
    assert part.rewards(5, [PROMPT], [named(VALUES[:1], [(0, "a")])]) == [[None]]


def test_a_source_that_is_only_shown_may_fail_unless_it_is_a_gate() -> None:
    rows = named(VALUES, [(0, "shown")])
    assert None not in opened(type="weighted").rewards(1, [PROMPT], [rows])[0]
    assert opened(type="gated", gates={"shown": 0.0}).rewards(1, [PROMPT], [rows])[0][0] is None


def test_one_answer_alone_is_combined_too() -> None:
    for settings, _ in FORMULAS.values():
        (found,) = opened(**settings).rewards(5, [PROMPT], [named(VALUES[:1])])
        assert found[0] is not None


def test_noise_has_its_spread_is_the_same_again_and_reaches_no_other_source() -> None:
    rows = named(np.zeros((4000, 4)))
    noisy = opened(type="weighted", noise={"b": 3.0})
    (first,), (again,) = (noisy.rewards(1, [PROMPT], [rows]) for _ in range(2))
    (other,) = noisy.rewards(2, [PROMPT], [rows])
    assert first == again != other
    assert np.std(first) == pytest.approx(1.5, rel=0.05) and abs(np.mean(first)) < 0.1
    assert (
        opened({"a": 1.0, "b": 0.0}, type="weighted", noise={"b": 3.0}).rewards(1, [PROMPT], [rows])[0] == [0.0] * 4000
    )


def test_running_moments_are_those_of_all_scores_whatever_the_steps() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, (60, 4))
    combiner = opened(type="normalised")
    assert isinstance(combiner, Scales) and combiner.keeper is combiner
    for step, part in enumerate(np.split(values, 6), 1):
        combiner.rewards(step, [PROMPT], [named(part[:4])])
        combiner.rewards(step, [PROMPT], [named(part)])  # the step is done again after an interruption
        told = combiner.observe(step, None)
    arms = values[:, [0, 1, 3]]
    assert [told[f"combining/mean_{name}"] for name in "abc"] == pytest.approx(arms.mean(0).tolist(), rel=1e-12)
    assert [told[f"combining/scale_{name}"] for name in "abc"] == pytest.approx(arms.std(0).tolist(), rel=1e-12)
    twin = opened(type="normalised")
    assert isinstance(twin, Scales)
    twin.restore(combiner.state())
    assert twin.rewards(7, [PROMPT], [named(values)]) == combiner.rewards(7, [PROMPT], [named(values)])
    other = opened({"a": 1.0, "b": 1.0}, type="normalised")
    assert isinstance(other, Scales)
    with pytest.raises(KeyError, match="3 sources where 2"):
        other.restore(combiner.state())


def test_rounds_of_one_step_add_up_and_older_scores_fade() -> None:
    values = np.random.default_rng(2).normal(size=(30, 4))
    once, twice = opened(type="normalised", decay=0.5), opened(type="normalised", decay=0.5)
    for step, part in enumerate(np.split(values, 2), 1):
        once.rewards(step, [PROMPT], [named(part)])
        twice.rewards(step, [PROMPT], [named(part[:5])])
        twice.rewards(step, [PROMPT], [named(part[5:])], first=1)
        told = [one.observe(step, None) for one in (once, twice)]
    assert told[0] == pytest.approx(told[1], rel=1e-12)
    weights = np.r_[np.full(15, 0.5), np.ones(15)]
    assert told[0]["combining/mean_a"] == pytest.approx(np.average(values[:, 0], weights=weights), rel=1e-12)
    nothing = Moments.of(np.zeros((0, 2)))
    assert nothing.with_more(nothing, 1.0).deviation().tolist() == [0.0, 0.0]


BAD = {
    "noise on a stranger": ({"type": "mean", "noise": {"x": 1.0}}, "combining.noise names reward 'x'"),
    "a gate that is not there": ({"type": "gated", "gates": {"x": 1.0}}, "combining.gates names reward 'x'"),
    "points of a stranger": ({"type": "scheduled", "points": {"x": {0: 1.0}}}, "combining.points names reward 'x'"),
    "no points": ({"type": "scheduled", "points": {}}, "no combining.points"),
    "a weight without a step": ({"type": "scheduled", "points": {"a": {}}}, "the weight of reward 'a' by step"),
    "a step before the first": ({"type": "scheduled", "points": {"a": {-1: 1.0}}}, "steps from 0 on"),
}


@pytest.mark.parametrize("name", BAD)
def test_settings_that_do_not_fit_the_sources_are_named(name: str) -> None:
    settings, said = BAD[name]
    faults = [fault.line() for fault in SETTINGS.validate_python(settings).conflicts(WEIGHTS)]
    assert len(faults) == 1 and said in faults[0]
    assert all(isinstance(fault, KlimbError) for fault in SETTINGS.validate_python(settings).conflicts(WEIGHTS))
