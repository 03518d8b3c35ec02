"""reasoning-gym's verifiers: full marks or nothing, unless part marks are wanted."""

from __future__ import annotations

import pytest

from klimb.data.gym import Gym as Task
from klimb.errors import RewardError
from klimb.rewards.gym import Gym, GymScorer
from klimb.types import Completion, Outcome, Prompt, Score
from tests.rewards.words import asked, said


@pytest.fixture(scope="module")
def prompt() -> Prompt:
    pytest.importorskip("reasoning_gym", reason="the extra `gym` is not installed")
    return Task(task="spell_backward", train=8, held_out=4).open().held_out[0]


def test_the_right_answer_counts_and_what_leaks_part_marks_does_not(prompt: Prompt) -> None:
    right = prompt.answer or ""
    texts = [right, f" {right}\n", "", "banana", right[:-1]]
    with Gym().open() as score:
        assert [one.value for one in score([prompt] * 5, [said(text) for text in texts])] == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_part_marks_count_where_they_are_wanted(prompt: Prompt) -> None:
    right = prompt.answer or ""
    with Gym(partial=True).open() as score:
        whole, part = score([prompt] * 2, [said(right), said(right[:-1])])
    assert whole.value == 1.0
    assert 0.0 < (part.value or 0.0) < 1.0


def verifier(prompts: list[Prompt], completions: list[Completion]) -> list[Score]:
    known = {"right": Score.of(1.0), "part": Score.of(0.9)}
    return [known.get(one.text, Score(Outcome.TIMED_OUT)) for one in completions]


def test_the_answer_is_cut_out_and_a_failure_of_the_verifier_is_no_zero() -> None:
    score = GymScorer(Gym(pattern="It is (.*)"), verifier)  # type: ignore[arg-type]
    scores = score([asked(gym={})] * 3, [said("It is right"), said("It is part"), said("It is late")])
    assert [one.value for one in scores] == [1.0, 0.0, None]


def test_a_pattern_that_takes_too_long_is_no_zero_and_costs_no_other_score() -> None:
    score = GymScorer(Gym(pattern="(?:(?:a|a)*)*b|^(right)$"), verifier)  # type: ignore[arg-type]
    scores = score([asked(gym={})] * 3, [said("right"), said("a" * 60), said("right")])
    assert [one.value for one in scores] == [1.0, None, 1.0]
    assert scores[1].outcome is Outcome.TIMED_OUT
    assert "pattern" in scores[1].reason


def test_other_prompts_are_refused_by_name() -> None:
    with pytest.raises(RewardError, match=r"prompt 'p'.*data\.type=gym"):
        GymScorer(Gym(), verifier)([asked()], [said("12")])  # type: ignore[arg-type]
