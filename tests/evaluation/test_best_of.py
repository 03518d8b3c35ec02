"""Best-of-n: the value of the best by a reward is the mean over all sets of n, and nothing that failed is in it."""

from __future__ import annotations

from itertools import combinations
from math import log
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klimb.evaluation.best_of import Answer, curve, expected_best
from klimb.evaluation.intervals import wilson


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), min_size=1, max_size=6), st.integers(1, 6))
def test_the_expected_best_is_the_mean_over_all_sets(answers: list[tuple[int, int]], n: int) -> None:
    n = min(n, len(answers))
    best = []
    for some in combinations(answers, n):
        top = max(reward for reward, _ in some)
        best.append(top)
    rewards, values = zip(*answers, strict=True)
    assert expected_best(rewards, rewards, n) == pytest.approx(fmean(best))
    shared = {r: fmean(v for reward, v in answers if reward == r) for r in set(rewards)}
    assert expected_best(rewards, values, n) == pytest.approx(fmean(shared[top] for top in best))


def test_more_answers_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="best 3 of 2"):
        expected_best([1.0, 2.0], [0.0, 1.0], 3)
    with pytest.raises(ValueError, match="with 1 values"):
        expected_best([1.0, 2.0], [0.0], 1)


def test_a_gamed_reward_shows_as_a_curve_that_falls() -> None:
    """The reward likes the wrong answer best: choosing harder brings more reward and less that is correct."""
    prompt = [Answer(0.0, 0.0), Answer(1.0, 1.0), Answer(1.0, 1.0), Answer(9.0, 0.0)]
    rows, left_out = curve([prompt, prompt], threshold=1.0)
    assert left_out == 0 and [row.n for row in rows] == [1, 2, 4]
    assert [row.correct for row in rows] == [0.5, 0.5, 0.0]
    assert [row.reward for row in rows] == pytest.approx([11 / 4, (1 + 1 + 1 + 9 * 3) / 6, 9.0])
    assert [row.possible for row in rows] == pytest.approx([0.5, 5 / 6, 1.0])
    assert rows[2].kl == log(4) - 3 / 4 and rows[0].kl == 0.0


def test_what_failed_is_left_out_and_counted() -> None:
    whole = [Answer(1.0, 0.25), Answer(0.0, 1.0)]
    rows, left_out = curve(
        [[*whole, Answer(None, 1.0)], [Answer(5.0, None), Answer(1.0, 1.0), Answer(None, None)]], 0.5
    )
    assert left_out == 3 and [(row.n, row.prompts) for row in rows] == [(1, 2), (2, 1)]
    assert rows[0].correct == 0.75 and rows[1].correct == 0.0 and rows[1].score == 0.25
    assert (rows[0].low, rows[0].high) == wilson(1.5, 2) and rows[1].high > 0.7, "one prompt says little of others"
    assert curve([[Answer(None, 1.0)]], 1.0) == ((), 1)
    assert curve([], 1.0) == ((), 0)
