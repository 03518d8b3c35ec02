"""The distributions against numbers that can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klimb.lens import statistics as S

H = np.array([0.0, 0.5, 2.0, 0.005, 1.0], np.float32)


def test_the_top_set_has_exactly_the_ceiling_of_rho_n_tokens_and_the_earlier_of_equal_ones() -> None:
    assert S.top(H, 0.2).tolist() == [False, False, True, False, False]
    assert S.top(H, 0.21).tolist() == [False, False, True, False, True]
    assert S.top(np.ones(4, np.float32), 0.5).tolist() == [True, True, False, False]
    assert S.threshold(H, 0.4) == 1.0
    assert S.threshold(np.zeros(0, np.float32)) is None


@given(st.lists(st.floats(0, 9, width=32), max_size=40), st.floats(0.01, 1.0))
def test_no_token_outside_the_top_set_has_more_entropy_than_one_in_it(values: list[float], rho: float) -> None:
    entropy = np.array(values, np.float32)
    chosen = S.top(entropy, rho)
    assert chosen.sum() == math.ceil(rho * len(values) - 1e-9)
    assert not chosen.any() or chosen.all() or entropy[chosen].min() >= entropy[~chosen].max()


def test_the_share_under_a_bound_counts_strictly_smaller_ones() -> None:
    assert S.share_under(H) == pytest.approx(0.4)
    assert S.share_under(H, 0.005) == pytest.approx(0.2)
    assert S.share_under(np.zeros(0, np.float32)) is None


def test_the_histogram_counts_every_token_once() -> None:
    found = S.histogram(H, 4)
    assert found.edges == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert found.counts == [2, 1, 1, 1]
    assert sum(S.histogram(np.zeros(3, np.float32)).counts) == 3


def test_words_are_averaged_over_their_occurrences_and_rare_ones_are_left_out() -> None:
    tokens = np.array([7, 7, 8, 8, 9, 5, 5])
    entropy = np.array([1.0, 3.0, 0.0, 0.5, 9.0, 1.0, 1.0], np.float32)
    high, low = S.by_word(tokens, entropy, 2)
    assert [(word.token, word.mean, word.count) for word in high] == [(7, 2.0, 2), (5, 1.0, 2)]
    assert [(word.token, word.mean) for word in low] == [(8, 0.25)]
    assert S.by_word(tokens, entropy, 3) == ([], [])


def test_positions_count_from_the_start_of_each_completion() -> None:
    row = np.array([0, 0, 0, 2, 2])
    found = S.by_position(row, np.array([1.0, 2.0, 3.0, 5.0, 6.0], np.float32))
    assert [(one.start, one.stop, one.mean, one.count) for one in found] == [(0, 1, 3, 2), (1, 2, 4, 2), (2, 3, 3, 1)]
    wide = S.by_position(np.zeros(100, np.int64), np.arange(100, dtype=np.float32), bins=10)
    assert [one.mean for one in wide] == pytest.approx([10 * n + 4.5 for n in range(10)])
    assert S.by_position(np.zeros(0, np.int64), np.zeros(0, np.float32)) == []


def test_the_kept_share_is_given_for_each_reward_and_rows_without_one_do_not_enter() -> None:
    kept = np.array([True, False, True, True])
    found = S.kept_by_reward(kept, np.array([0.0, 0.0, 1.0, np.nan], np.float32))
    assert [(one.start, one.mean, one.count) for one in found] == [(0.0, 0.5, 2), (1.0, 1.0, 1)]
    many = S.kept_by_reward(np.ones(100, bool), np.linspace(0, 1, 100).astype(np.float32))
    assert len(many) == 8
    assert sum(one.count for one in many) == 100


def test_the_overlap_is_the_share_of_the_set_that_the_other_has_too() -> None:
    assert S.overlap(H, H) == S.Overlap(1.0, 1, 5)
    assert S.overlap(H, np.array([9, 8, 0, 0, 0], np.float32), 0.4) == S.Overlap(0.0, 2, 5)
    assert S.overlap(H, np.array([0, 0, 9, 8, 0], np.float32), 0.4) == S.Overlap(0.5, 2, 5)
    assert S.overlap(np.zeros(0, np.float32), np.zeros(0, np.float32)) is None


def test_changes_are_averaged_in_bins_of_equal_size_by_the_entropy_before() -> None:
    before = np.array([3.0, 1.0, 2.0, 0.0], np.float32)
    found = S.change_by_percentile(before, before + np.array([4.0, 2.0, 3.0, 1.0], np.float32), bins=2)
    assert [(one.start, one.stop, one.mean, one.count) for one in found] == [(0, 50, 1.5, 2), (50, 100, 3.5, 2)]
