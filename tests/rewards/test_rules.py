"""Rewards by rule: what counts as the answer, and what is never a zero."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from klimb.rewards import AnyReward, Exact, Format, Length, Numeric
from klimb.rewards.base import Reward
from klimb.rewards.numbers import read_all
from klimb.types import Outcome
from tests.rewards.words import asked, said

FOR_EVER = "(?:(?:a|a)*)*b|^[0-9]$"
NUMBERS = [
    ("12", "12"), ("The answer is 12.", "12"), ("5 + 7 = 12", "12"), ("12.0", "12"), ("24/2", "12"), ("1.2e1", "12"),
    ("so 4 - 9 = -5", "-5"), ("\u22125", "-5"), ("10-3", "3"), ("(5)-3", "3"), ("x=-3", "-3"), ("+8", "8"),
    ("$1,080.00", "1080"), ("-$5", "-5"), ("1,080", "1080"), ("1, 080", "80"), ("1,2,3", "3"),
    ("12,345,678", "12345678"),
    (".5", "1/2"), ("-.5", "-0.5"), ("3/4", "0.75"), ("0.1", "1/10"), ("50%", "50"), ("007", "7"), ("**42**", "42"),
    ("\\boxed{42}", "42"), ("7 apples,", "7"), ("1.2.3", "0.3"), ("1e3", "1000"), ("1E-2", "0.01"), ("-0", "0"),
    ("\u0663 1", "1"), ("9" * 400, "9" * 400), ("1\u00a0000", "0"),
]  # fmt: skip


def value(reward: Reward, text: str, answer: str | None = "12") -> float | None:
    return reward.score(asked(answer), said(text)).value


@pytest.mark.parametrize(("text", "answer"), NUMBERS)
def test_the_last_number_of_the_text_counts(text: str, answer: str) -> None:
    assert value(Numeric(), text, answer) == 1.0
    assert value(Numeric(), text, "123456") == 0.0


@pytest.mark.parametrize(
    "text", ["", "no number", "1/0", "1e999999999", "9" * 5000, "1e401", "1/" + "9" * 500, "\0", "\ud800"]
)
def test_what_is_no_number_is_a_wrong_answer(text: str) -> None:
    assert value(Numeric(), text) == 0.0


@pytest.mark.parametrize("answer", [None, "", "twelve", "1 or 2", "1/0"])
def test_a_prompt_without_one_number_for_an_answer_cannot_be_scored(answer: str | None) -> None:
    score = Numeric().score(asked(answer), said("12"))
    assert score.outcome is Outcome.UNSCORABLE
    assert "answer" in score.reason


def test_first_only_and_tolerance_are_choices() -> None:
    assert value(Numeric(take="first"), "12 or 13") == 1.0
    assert value(Numeric(take="only"), "12 or 13") == 0.0
    assert value(Numeric(take="only"), "it is 12") == 1.0
    assert value(Numeric(tolerance=0.01), "12.1") == 1.0
    assert value(Numeric(tolerance=0.01), "12.2") == 0.0
    assert value(Numeric(tolerance=0.01), "-12.1", "-12") == 1.0


@pytest.mark.parametrize("piece", ["9", "1,", "111,", "1/", "-", ".", "1e", "1.1", "1,1/1e1.", "e+", "\u2212", "$"])
def test_hostile_texts_are_read_in_linear_time(piece: str) -> None:
    def seconds(count: int) -> float:
        start = time.process_time()
        read_all(piece * count)
        return time.process_time() - start

    short = min(seconds(5_000) for _ in range(3))
    assert seconds(50_000) < 30 * short + 0.5, (
        "ten times the text would take a hundred times as long if it were squared"
    )


@given(st.integers(), st.sampled_from(["{}", "it is {}.", "= {}", "({})", "${}", "{},", "{:,}", "{}.0", "{}/1"]))
@settings(max_examples=100, deadline=None)
def test_every_integer_is_read_back(number: int, form: str) -> None:
    assert value(Numeric(), form.format(number), str(number)) == 1.0


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_no_text_makes_a_rule_raise(text: str) -> None:
    for reward in (Numeric(), Exact(), Exact(pattern="(a*)"), Format(), Length()):
        assert reward.score(asked(), said(text)).outcome is Outcome.SCORED


def test_exact_compares_texts_without_the_spaces_around_them() -> None:
    assert value(Exact(), " 12\n") == 1.0
    assert value(Exact(), "12.") == 0.0
    assert value(Exact(), "Yes", "yes") == 0.0
    assert value(Exact(ignore_case=True), "YES", "yes") == 1.0
    assert Exact().score(asked(None), said("12")).outcome is Outcome.UNSCORABLE


def test_exact_takes_the_last_match_of_its_pattern() -> None:
    boxed = Exact(pattern=r"<answer>(.*?)</answer>")
    assert value(boxed, "<answer>3</answer> no, <answer> 12 </answer>") == 1.0
    assert value(boxed, "12") == 0.0
    assert value(Exact(pattern=r"[0-9]+"), "it is 12") == 1.0


def test_format_matches_the_whole_text() -> None:
    assert value(Format(), " -12 \n") == 1.0
    assert value(Format(), "12 apples") == 0.0
    assert value(Format(pattern=r"<think>.*</think>.*"), "<think>a\nb</think>\n12") == 1.0


def test_a_fraction_over_a_long_number_with_decimals_is_read_in_linear_time() -> None:
    start = time.process_time()
    assert read_all("1/" + "2" * 48_000 + ".5") == [1, None]
    assert time.process_time() - start < 0.2
    assert read_all("1/25.5 1/25 3/4.") == [1, Fraction(51, 2), Fraction(1, 25), Fraction(3, 4)]


@pytest.mark.parametrize("reward", [Exact(pattern=FOR_EVER), Format(pattern=FOR_EVER)])
def test_a_pattern_that_takes_for_ever_times_out_and_is_no_zero(reward: Reward) -> None:
    start = time.process_time()
    score = reward.score(asked(), said("a" * 40 + "!"))
    assert score.outcome is Outcome.TIMED_OUT
    assert time.process_time() - start < 3.0


@pytest.mark.parametrize("pattern", ["(", "[", "*", "(?P<a", "a{2,1}", "\\"])
def test_a_broken_pattern_is_refused_when_the_settings_are_read(pattern: str) -> None:
    for reward in ("format", "exact"):
        with pytest.raises(ValidationError, match="not a regular expression"):
            TypeAdapter(AnyReward).validate_python({"type": reward, "pattern": pattern})


def test_length_follows_dapos_equation_13() -> None:
    reward = Length(most=10, slack=4)
    paid = [reward.score(asked(), said("", tokens)).value for tokens in (1, 6, 7, 8, 10, 11, 50)]
    assert paid == [0.0, 0.0, -0.25, -0.5, -1.0, -1.0, -1.0]
    assert [Length(most=10, slack=0).score(asked(), said("", tokens)).value for tokens in (10, 11)] == [0.0, -1.0]
