"""Sources together: names, the combined reward, tallies, and the limit on failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klimb.errors import RewardError
from klimb.rewards import Exact, Format, Numeric
from klimb.rewards.base import Reward, Scorer
from klimb.rewards.scoring import open_all
from klimb.rewards.total import combine
from klimb.types import Completion, Outcome, Prompt, Score
from tests.rewards.words import asked, said


class Failing(Reward):
    """Fails for the completions that say so."""

    type: str = "failing"
    closed: ClassVar[list[str]] = []

    def open(self) -> AbstractContextManager[Scorer]:
        return self._opened()

    @contextmanager
    def _opened(self) -> Iterator[Scorer]:
        yield lambda prompts, done: [self.score(p, c) for p, c in zip(prompts, done, strict=True)]
        self.closed.append(self.name)

    def score(self, prompt: Prompt, completion: Completion) -> Score:
        if completion.text == "fail":
            return Score(Outcome.INFRA_FAILED, reason="the lamp is out")
        return Score.of(0.5)


FAILED = Score(Outcome.TIMED_OUT)


def test_every_source_scores_every_completion_by_its_name() -> None:
    with open_all([Numeric(), Format(name="brief", weight=0.1)]) as score_all:
        scores = score_all([asked()] * 3, [said("12"), said("it is 12"), said("13")])
    assert [{name: score.value for name, score in row.items()} for row in scores] == [
        {"numeric": 1.0, "brief": 1.0},
        {"numeric": 1.0, "brief": 0.0},
        {"numeric": 0.0, "brief": 1.0},
    ]


def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(RewardError, match="twice: exact"), open_all([Exact(), Exact(ignore_case=True)]):
        pass


def test_combine_is_the_weighted_sum_of_what_has_a_weight() -> None:
    scores = {"a": Score.of(1.0), "b": Score.of(-2.0), "c": FAILED}
    assert combine(scores, {"a": 1.0, "b": 0.25, "c": 0.0}) == 0.5


@given(st.lists(st.sampled_from([1.0, 0.0, None]), min_size=1, max_size=6), st.data())
def test_a_failed_source_with_a_weight_leaves_no_reward_and_one_without_changes_nothing(
    values: list[float | None], data: st.DataObject
) -> None:
    weights = {str(n): data.draw(st.sampled_from([0.0, 0.5, 2.0])) for n in range(len(values))}
    scores = {str(n): FAILED if value is None else Score.of(value) for n, value in enumerate(values)}
    needed = [(weights[str(n)], value) for n, value in enumerate(values) if weights[str(n)]]
    expected = None if any(v is None for _, v in needed) else sum(w * (v or 0.0) for w, v in needed)
    assert combine(scores, weights) == expected


def test_a_missing_source_leaves_no_reward() -> None:
    assert combine({"a": Score.of(1.0)}, {"a": 1.0, "b": 1.0}) is None


def test_failures_are_tallied_and_never_a_number() -> None:
    with open_all([Failing()]) as score_all:
        scores = score_all([asked()] * 4, [said("ok"), said("fail"), said("ok"), said("ok")])
        assert scores[1]["failing"].value is None
        assert score_all.tally == {"failing": {Outcome.SCORED: 3, Outcome.INFRA_FAILED: 1}}


def test_too_many_failures_end_the_run_by_source_and_cause() -> None:
    with open_all([Failing()], limit=0.5, window=40) as score_all:
        score_all([asked()] * 20, [said("ok")] * 20)
        score_all([asked()] * 20, [said("fail")] * 20)
        with pytest.raises(
            RewardError, match=r"'failing'.*21 of the last 40 failed; 21 times infra_failed: the lamp is out"
        ):
            score_all([asked()], [said("fail")])


def test_a_few_failures_at_the_start_do_not_end_the_run() -> None:
    with open_all([Failing()]) as score_all:
        assert len(score_all([asked()] * 15, [said("fail")] * 15)) == 15


def test_a_source_without_weight_never_ends_the_run() -> None:
    with open_all([Failing(weight=0.0)]) as score_all:
        assert len(score_all([asked()] * 64, [said("fail")] * 64)) == 64


def test_every_source_is_closed_at_the_end() -> None:
    first, second = Failing(name="one"), Failing(name="two")
    with open_all([first, second]):
        pass
    assert sorted(Failing.closed[-2:]) == ["one", "two"]
