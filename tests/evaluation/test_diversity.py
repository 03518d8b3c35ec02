"""distinct-n and repetition on completions small enough to count by hand."""

from __future__ import annotations

import pytest

from klimb.evaluation.diversity import distinct, diversity, repetition
from klimb.tracking.metrics import unknown
from klimb.types import Completion, Finish, Group, Prompt, Rollout


def group(*answers: tuple[int, ...]) -> Group:
    done = [Completion(tokens, (), "", Finish.EOS) for tokens in answers]
    return Group(Prompt("a", text=""), tuple(Rollout(one, k, k) for k, one in enumerate(done)))


def test_distinct_counts_different_grams_over_all_grams() -> None:
    assert distinct([(1, 2, 1), (1, 2)], 1) == 2 / 5
    assert distinct([(1, 2, 1), (1, 2)], 2) == 2 / 3
    assert distinct([(1,), (2,)], 2) is None


def test_repetition_is_the_share_of_runs_that_stood_there_before() -> None:
    assert repetition((1, 2, 3, 4, 5)) == 0.0
    assert repetition((7,) * 7) == pytest.approx(3 / 4)
    assert repetition((1, 2, 3)) is None


def test_diversity_is_within_each_prompt_and_a_mean_of_nothing_is_left_out() -> None:
    found = diversity([group((1, 2), (1, 2)), group((3, 4), (5, 6))])
    assert found == {"diversity/distinct_1": 0.75, "diversity/distinct_2": 0.75}
    assert unknown(diversity([group((1,) * 9)])) == []
    assert diversity([group(())]) == {}
