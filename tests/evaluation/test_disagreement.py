"""How far reward sources agree: every number against its definition, worked out apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from klimb.correlation import ranks, spearman
from klimb.errors import RewardError
from klimb.evaluation.disagreement import compare
from klimb.evaluation.intervals import clustered
from klimb.evaluation.opinions import Opinion, Pair, opinions
from klimb.rewards.base import Reward
from klimb.rewards.length import Length
from klimb.rewards.repetition import Repetition
from klimb.types import Completion, Outcome, Prompt, Score

FAILED = Score(Outcome.TIMED_OUT, reason="no answer in 1 s")


def said(name: str, chosen: Sequence[float | None], rejected: Sequence[float | None]) -> Opinion:
    sides = [tuple(FAILED if value is None else Score.of(value) for value in side) for side in (chosen, rejected)]
    return Opinion(name, sides[0], sides[1], 0.5)


def test_a_source_is_judged_on_the_pairs_that_it_scored_and_ties_are_halves() -> None:
    (row,) = compare([said("a", [3, 1, 2, None], [1, 2, 2, 0])], ["p", "q", "r", "s"]).rows
    assert (row.scored, row.ties, row.failed, row.accuracy) == (3, 1, 1, pytest.approx(0.5))
    assert row.failures == {"timed_out: no answer in 1 s": 1}
    assert row.mean == pytest.approx(np.mean([3, 1, 2, 1, 2, 2, 0])) and row.ms == pytest.approx(500 / 8)
    assert row.low is not None and row.high is not None and 0 <= row.low < 0.5 < row.high <= 1


def test_two_sources_agree_where_both_prefer_the_same_answer() -> None:
    a = said("a", [3, 1, 2, None, 5], [1, 2, 2, 0, 0])
    b = said("b", [1, 0, 9, 1, 0], [0, 4, 0, 0, 7])
    table = compare([a, b], ["p", "p", "q", "r", "s"])
    (cell,) = table.cells
    assert (cell.ranked, cell.agreement) == (3, pytest.approx(2 / 3))
    gaps = np.array([[2, -1, 0, 5], [1, -4, 9, -7]])
    stats = pytest.importorskip("scipy.stats")
    assert cell.correlation == pytest.approx(stats.spearmanr(*gaps).statistic)
    assert (table.pairs, table.prompts, table.together) == (5, 4, 4)
    assert table.conflict == 1 / 4  # the last; the third has a tie and one preference
    assert table.majority == pytest.approx((1 + 0 + 1 + 0.5) / 4) and table.oracle == 3 / 4


def test_a_source_that_never_scores_is_shown_and_poisons_nothing() -> None:
    table = compare([said("a", [1, 0], [0, 1]), said("dead", [None, None], [None, None])], ["p", "q"])
    assert table.rows[0].accuracy == 0.5 and table.rows[1].accuracy is None and table.rows[1].failed == 4
    assert table.cells[0].agreement is None and table.together == 0 and table.conflict is None


def test_ranks_and_their_correlation_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    first, second = random.integers(0, 6, 50).astype(float), random.normal(size=50)
    assert ranks(first).tolist() == (stats.rankdata(first) - 1).tolist()
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert spearman(first, np.ones(50)) is None and spearman(np.zeros(0), np.zeros(0)) is None


def test_the_interval_widens_where_the_pairs_of_a_prompt_hang_together() -> None:
    random = np.random.default_rng(0)
    per_prompt = random.integers(0, 2, 60).astype(float)
    apart = clustered(per_prompt.tolist(), [str(n) for n in range(60)])
    copied = clustered(np.repeat(per_prompt, 10).tolist(), [str(n // 10) for n in range(600)])
    loose = clustered(np.repeat(per_prompt, 10).tolist(), [str(n) for n in range(600)])
    assert copied == pytest.approx(apart) and loose[2] - loose[1] < 0.5 * (copied[2] - copied[1])
    half = 1.96 * per_prompt.std() / math.sqrt(60)
    assert apart[1:] == pytest.approx((per_prompt.mean() - half, per_prompt.mean() + half), abs=0.02)
    with pytest.raises(ValueError, match="0 values in 1 clusters"):
        clustered([], ["a"])


def test_every_source_scores_both_answers_of_every_pair() -> None:
    pairs = [Pair(Prompt(f"p{n}", text="q"), "one two " * n, "one") for n in range(70)]
    short, fresh = opinions(pairs, [Length(most=100, slack=100), Repetition(n=1)])
    assert short.gaps == pytest.approx([-(2 * n - 1) / 100 if n < 51 else -0.99 for n in range(70)])
    assert fresh.gaps[3] == pytest.approx(2 / 6 - 1) and short.failures == {}
    (tokens,) = opinions(pairs[:1], [Length(most=100, slack=100)], lambda text: tuple(range(len(text))))
    assert tokens.gaps == pytest.approx([0.03])


class Lazy(Reward):
    """Scores nothing."""

    def open(self):  # type: ignore[no-untyped-def]
        from contextlib import nullcontext

        def scorer(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
            return []

        return nullcontext(scorer)


def test_one_name_twice_and_scores_that_are_missing_are_refused() -> None:
    pairs = [Pair(Prompt("p", text="q"), "a", "b")]
    with pytest.raises(RewardError, match="twice: length"):
        list(opinions(pairs, [Length(), Length(most=3)]))
    with pytest.raises(RewardError, match="2 scores of reward 'lazy'"):
        list(opinions(pairs, [Lazy()]))
