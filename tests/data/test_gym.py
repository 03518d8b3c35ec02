"""reasoning-gym's tasks: the same problems in every process, questions on one side only, faults named."""

from __future__ import annotations

import pytest

from klimb.data import gym_child
from klimb.data.gym import Gym
from klimb.errors import DataError, SettingsError

pytest.importorskip("reasoning_gym", reason="the extra `gym` is not installed")
SMALL = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}


def test_no_question_stands_on_both_sides_even_of_a_small_task() -> None:
    problems = Gym(task="chain_sum", parameters=SMALL, train=300, held_out=40).open()
    train, held = ([p.messages[0].content for p in side] for side in (problems.train, problems.held_out))
    assert not set(train) & set(held)
    assert (len(train), len(set(held))) == (300, 40)
    assert all(str(eval_sum(q)) == p.answer for q, p in zip(held, problems.held_out, strict=True))


def eval_sum(question: str) -> int:
    first, sign, second = question.rpartition(": ")[2].removesuffix(" =").split()
    return int(first) + (int(second) if sign == "+" else -int(second))


def test_a_task_that_depends_on_the_order_of_sets_is_the_same_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    first = Gym(task="isomorphic_strings", train=8, held_out=4).open().fingerprint()
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    assert Gym(task="isomorphic_strings", train=8, held_out=4).open().fingerprint() == first


@pytest.mark.parametrize(
    ("task", "parameters", "words"),
    [
        ("chainsum", {}, "task=chain_sum"),
        ("no such task at all", {}, "one of ab, "),
        ("composite", {}, "composite"),
        ("chain_sum", {"min_term": 2}, "parameters.min_terms"),
        ("chain_sum", {"seed": 2}, "parameters.seed is a setting of chain_sum"),
        ("chain_sum", {"min_terms": 5, "max_terms": 2}, "max_terms must be >= min_terms"),
        ("chain_sum", {"min_terms": "two"}, "TypeError"),
        ("chain_sum", {"min_digits": None}, "TypeError"),
    ],
)
def test_wrong_tasks_and_parameters_are_named(task: str, parameters: dict[str, object], words: str) -> None:
    faults = Gym(task=task, parameters=parameters).faults()
    assert words in "\n".join(fault.line() for fault in faults)
    with pytest.raises(SettingsError):
        Gym(task=task, parameters=parameters).open()


def test_all_wrong_parameters_are_told_at_once() -> None:
    assert len(Gym(task="chain_sum", parameters={"a": 1, "b": 2}).faults()) == 2


def test_problems_that_take_too_long_to_make_are_given_up() -> None:
    with pytest.raises(DataError, match=r"not made in 0\.2 s"):
        Gym(task="futoshiki", deadline=0.2).open()


def test_solved_examples_are_not_trained_on() -> None:
    problems = Gym(task="chain_sum", train=5, held_out=2, shots=2, form="text").open()
    shown = (problems.held_out[0].text or "").split("\n")
    assert len(shown) == 3
    assert len(problems.train) == 5


@pytest.mark.slow
def test_every_task_of_the_library_gives_problems_on_both_sides() -> None:
    from reasoning_gym.factory import DATASETS

    request = {"parameters": {}, "train": 2, "held_out": 1, "seed": 3}
    made = {task: gym_child.make(request | {"task": task}) for task in sorted(DATASETS) if task != "composite"}
    assert {task: (len(one["train"]), len(one["held_out"])) for task, one in made.items()} == dict.fromkeys(
        made, (2, 1)
    )
    assert len(made) >= 100
