"""Signs of a gamed reward: rank correlations inside prompts, and the course of a held-out source beside the reward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from klimb.config import resolve
from klimb.correlation import within
from klimb.errors import SettingsError
from klimb.recipe import Recipe
from klimb.tracking.hacking import Course, course, hacking
from klimb.types import Completion, Finish, Group, Outcome, Prompt, Rollout, Score

NAN = float("nan")


def test_inside_one_group_it_is_spearmans_correlation() -> None:
    first, second = np.random.default_rng(0).integers(0, 9, (2, 40)).astype(float)
    assert within(first, second, [3] * 40) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_what_differs_from_prompt_to_prompt_has_no_part_in_it() -> None:
    first, second = np.array([1.0, 2.0, 11.0, 12.0]), np.array([2.0, 1.0, 12.0, 11.0])
    assert stats.spearmanr(first, second).statistic == pytest.approx(0.6)
    assert within(first, second, [0, 0, 1, 1]) == -1.0


def test_groups_that_say_nothing_and_missing_values_are_left_out() -> None:
    first = np.array([1.0, 2.0, 5.0, 5.0, 1.0, NAN, 2.0])
    second = np.array([1.0, 2.0, 1.0, 2.0, 2.0, 1.0, 1.0])
    assert within(first, second, [0, 0, 1, 1, 2, 2, 2]) == pytest.approx(0.0), "one up, one down, the rest silent"
    assert within(first[2:4], second[2:4], [1, 1]) is None
    assert within(np.array([NAN]), np.array([1.0]), [0]) is None


def answer(length: int, reward: float | None, **scores: float | None) -> Rollout:
    named = {name: Score(Outcome.TIMED_OUT) if value is None else Score.of(value) for name, value in scores.items()}
    return Rollout(Completion((1,) * length, (-1.0,) * length, "", Finish.EOS), 0, 0, named, reward)


def test_the_metrics_say_what_the_reward_goes_with() -> None:
    group = Group(
        Prompt("a", text=""),
        (
            answer(1, 0.0, proxy=0.0, judge=3.0),
            answer(2, 1.0, proxy=1.0, judge=2.0),
            answer(3, 2.0, proxy=2.0, judge=1.0),
            answer(9, None, proxy=None, judge=9.0),
        ),
    )
    assert hacking([group]) == {
        "hacking/by_length": 1.0,
        "hacking/with_judge": -1.0,
        "hacking/with_proxy": 1.0,
        "hacking/disagreement": 2.0,
    }


def test_one_source_is_not_compared_with_itself_and_equal_rewards_say_nothing() -> None:
    group = Group(Prompt("a", text=""), (answer(1, 1.0, exact=1.0), answer(2, 1.0, exact=1.0)))
    assert hacking([group]) == {}


def lines(judge: list[float | None], reward: list[float]) -> list[dict[str, Any]]:
    return [
        {"step": step, "reward/judge": j, "reward/mean": r}
        for step, (j, r) in enumerate(zip(judge, reward, strict=True), 1)
    ]


def test_the_course_compares_the_best_window_with_the_newest() -> None:
    judge = [9.0, None, 0.2, 0.4, 0.7, 0.9, 0.1, 0.3]
    found = course(lines(judge, [0, 0, 1, 1, 2, 2, 3, 5]), "reward/judge", "reward/mean", 2)
    assert found == Course(6, pytest.approx(0.8), pytest.approx(0.2), 2.0, 4.0, True)
    assert found is not None and found.gamed
    assert course(lines([0.1, 0.2, 0.3], [0, 1, 2]), "reward/judge", "reward/mean", 2) is None


def test_a_fall_inside_the_noise_or_with_the_reward_is_not_called_gaming() -> None:
    noisy = course(lines([0.0, 1.0, 0.0, 0.9], [0, 0, 1, 1]), "reward/judge", "reward/mean", 2)
    assert noisy is not None and noisy.gamed and not noisy.sure
    both = course(lines([0.8, 0.8, 0.1, 0.1], [2, 2, 1, 1]), "reward/judge", "reward/mean", 2)
    assert both is not None and both.sure and not both.gamed
    single = course(lines([0.8, 0.1], [1, 2]), "reward/judge", "reward/mean", 1)
    assert single is not None and not single.sure, "one step a window has no spread to tell by"


@pytest.mark.parametrize(("source", "found"), [("right", "its weight is 1"), ("jugde", "no reward has that name")])
def test_an_alert_on_a_source_that_is_not_held_out_is_refused(source: str, found: str) -> None:
    rewards = [{"type": "exact", "name": "right"}, {"type": "exact", "name": "judge", "weight": 0}]
    whole = {"model": {"name": "tiny"}, "data": {"type": "echo-digit"}, "objective": {"type": "grpo"}}
    with pytest.raises(SettingsError, match=f"'{source}'.*{found}.*one of weight 0: judge"):
        resolve(Recipe, whole | {"rewards": rewards, "alerts": [{"type": "hacked", "source": source}]})
    resolve(Recipe, whole | {"rewards": rewards, "alerts": [{"type": "hacked", "source": "judge"}]})
