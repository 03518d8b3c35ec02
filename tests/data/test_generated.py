"""Generated tasks: right answers, no operands on both sides, the same problems on every machine."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache

import pytest

from klimb.data.base import Problems
from klimb.data.chain_sum import ChainSum
from klimb.data.difference import Difference
from klimb.data.digit_sum import DigitSum
from klimb.data.echo_digit import EchoDigit
from klimb.data.generated import Generated
from klimb.data.max_of_three import MaxOfThree
from klimb.errors import SettingsError
from klimb.types import Prompt

TASKS: list[Generated] = [
    DigitSum(),
    MaxOfThree(),
    Difference(),
    ChainSum(),
    ChainSum(same_digits=False, max_terms=4, max_digits=3, seed=5),
    ChainSum(max_digits=1, seed=2),
    EchoDigit(),
    EchoDigit(letters=2, digits=3, seed=1),
]


@cache
def opened(task: Generated) -> Problems:
    """Its problems, made once."""
    return task.open()


def asked(prompt: Prompt) -> str:
    """The question itself: the last line, without examples and frame."""
    text = prompt.messages[-1].content if prompt.messages else prompt.text or ""
    return text.split("\n")[-1].rpartition(": ")[2]


def numbers(prompt: Prompt) -> tuple[int, ...]:
    return tuple(sorted(int(number) for number in re.findall("[0-9]+", asked(prompt))))


def right(prompt: Prompt) -> str:
    """The answer, worked out again from the words of the question."""
    question = asked(prompt)
    if question.startswith("max("):
        return str(max(numbers(prompt)))
    if question[0].isalpha():
        return str(numbers(prompt)[0])
    terms = re.findall(r"([+-]?) ?([0-9]+)", question)
    return str(sum(-int(number) if sign == "-" else int(number) for sign, number in terms))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.type}-{task.seed}")
def test_every_answer_is_right(task: Generated) -> None:
    problems = opened(task)
    wrong = [p for p in (*problems.train, *problems.held_out) if p.answer != right(p)]
    assert wrong == []
    assert len(problems.train) == task.train


@pytest.mark.parametrize(
    "task", [t for t in TASKS if t.type != "echo-digit"], ids=lambda task: f"{task.type}-{task.seed}"
)
def test_no_numbers_stand_on_both_sides_in_any_order(task: Generated) -> None:
    problems = opened(task)
    assert not {numbers(p) for p in problems.train} & {numbers(p) for p in problems.held_out}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.type}-{task.seed}")
def test_no_question_stands_on_both_sides_and_no_held_out_one_comes_twice(task: Generated) -> None:
    problems = opened(task)
    held = [asked(p) for p in problems.held_out]
    assert len(set(held)) == len(held)
    assert not set(held) & {asked(p) for p in problems.train}
    shown = {line for p in (problems.train[0], problems.held_out[0]) for line in (p.text or "").split("\n")[:-1]}
    assert not {line.rpartition(" ")[0] for line in shown} & set(held), "no solved example is held out"


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.type}-{task.seed}")
def test_every_prompt_has_an_id_of_its_own(task: Generated) -> None:
    problems = opened(task)
    names = [p.id for p in (*problems.train, *problems.held_out)]
    assert len(set(names)) == len(names)


def test_the_demo_task_has_256_held_out_problems_of_one_and_two_digits() -> None:
    held = ChainSum().open().held_out
    short = sum(max(numbers(p)) < 10 for p in held)
    assert len(held) == 256
    assert 30 <= short <= 70, "a quarter of the 200 one-digit problems is there to hold out"
    assert held[0].messages[0].content.startswith("State the final answer to the following arithmetic problem: ")


def test_small_tasks_hold_out_about_a_quarter() -> None:
    assert len(DigitSum().open().held_out) == 192
    assert 30 <= len(Difference().open().held_out) <= 75
    assert 35 <= len(EchoDigit().open().held_out) <= 48


def test_held_out_digits_are_known_and_only_their_company_is_new() -> None:
    problems = EchoDigit().open()
    assert {p.answer for p in problems.held_out} == {p.answer for p in problems.train} == set("0123456789")


def test_few_shot_text_ends_where_the_answer_begins() -> None:
    text = DigitSum().open().train[0].text or ""
    assert re.fullmatch(r"(\d \+ \d \+ \d = \d+\n){4}\d \+ \d \+ \d =", text)


def test_a_chat_model_can_be_asked_as_plain_text_and_in_a_chat() -> None:
    assert DigitSum(form="chat", shots=1).open().train[0].messages[-1].content.endswith(" =")
    assert (ChainSum(form="text").open().train[0].text or "").endswith(" =")


def test_another_seed_holds_out_other_problems() -> None:
    first, second = ({asked(p) for p in ChainSum(seed=seed).open().held_out} for seed in (0, 1))
    assert len(first & second) < 128


def fingerprint(problems: Problems) -> str:
    return problems.fingerprint()[:16]


def test_the_problems_are_the_same_in_another_process() -> None:
    code = (
        "from klimb.data import ChainSum as A, EchoDigit as B\nprint(*(t().open().fingerprint()[:16] for t in (A, B)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert done.stdout.split() == [fingerprint(ChainSum().open()), fingerprint(EchoDigit().open())]


def test_the_demo_problems_stay_what_they_were() -> None:
    problems = ChainSum().open()
    assert [asked(p) for p in problems.train[:3]] == ["71 + 30 =", "66 - 30 =", "78 - 33 ="]


def test_ranges_that_are_upside_down_are_all_refused_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        ChainSum(min_terms=5, max_terms=2, min_digits=3, max_digits=1).open()
    assert len(caught.value.faults) == 2
