"""Rules and packaged scorers: what each counts, and that a missing package is one clear error."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import pytest

from klimb.errors import RewardError
from klimb.rewards import (
    Grammar,
    Instructions,
    JsonSchema,
    Language,
    MathVerify,
    Profanity,
    Regex,
    Repetition,
    Sentiment,
    Spelling,
)  # fmt: skip
from klimb.rewards.instruction_checks import CHECKS
from klimb.rewards.packaged import Packaged
from klimb.types import Outcome
from tests.rewards.words import asked, said


def test_a_pattern_is_found_anywhere_or_wanted_absent() -> None:
    texts = ["a <think>x\ny</think> b", "none"]
    for absent, values in ((False, [1.0, 0.0]), (True, [0.0, 1.0])):
        reward = Regex(pattern="<think>.*</think>", absent=absent)
        assert [reward.score(asked(), said(text)).value for text in texts] == values


def test_a_pattern_that_takes_for_ever_times_out() -> None:
    score = Regex(pattern="(?:(?:a|a)*)*b|^[0-9]$").score(asked(), said("a" * 40))
    assert score.outcome is Outcome.TIMED_OUT


@pytest.mark.parametrize(
    ("text", "n", "value"),
    [("a b c d", 2, 0.0), ("a b A b a b", 2, 2 / 5 - 1), ("la " * 100, 1, 0.01 - 1), ("", 3, 0.0), ("a b", 3, 0.0)],
)
def test_repetition_is_minus_the_share_of_phrases_said_before(text: str, n: int, value: float) -> None:
    assert Repetition(n=n).score(asked(), said(text)).value == pytest.approx(value)


def test_repetition_counts_tokens_if_asked() -> None:
    assert Repetition(n=1, unit="tokens").score(asked(), said("a b c d", 4)).value == -0.75


# ruff: noqa: E501 the tables below have one case a line
KEPT: list[tuple[str, dict[str, Any], str, str]] = [
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "AN EX", "An EX"),
    ("change_case:english_capital", {}, "ALL 5", "All"),
    ("change_case:english_lowercase", {}, "all 5", "All"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. Yes", "Yes. Say it."),
    ("combination:two_responses", {}, "a\n******\nb", "a\n******\na"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b]", "[a]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Hi\nP. S. more", "Hi PS"),
    ("detectable_format:constrained_response", {}, "My answer is no.", "No."),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:multiple_sections", {"section_spliter": "Part", "num_sections": 2}, "Part 1 a Part 2 b", "Part 1"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a* and **"),
    ("detectable_format:title", {}, "<<A title>>", "<< >>"),
    ("keywords:existence", {"keywords": ["sea", "sky"]}, "Sky and SEA.", "season and sky"),
    ("keywords:forbidden_words", {"forbidden_words": ["sea"]}, "season", "the sea"),
    ("keywords:frequency", {"keyword": "a", "frequency": 2, "relation": "less than"}, "a b", "a a"),
    ("keywords:letter_frequency", {"letter": "e", "let_frequency": 2, "let_relation": "at least"}, "Eve", "e"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"},
     "a\n\nSo, b", "so\n\nb"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "A 1.5. B!", "A 1.5."),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "two words", "three words here"),
    ("punctuation:no_comma", {}, "a b", "a, b"),
    ("startend:end_checker", {"end_phrase": "The end."}, "It is the end.", "The end. No"),
    ("startend:quotation", {}, '"a"', '"'),
]  # fmt: skip


def checked(name: str, words: dict[str, Any], text: str, take: Any = "all") -> float | None:
    return Instructions(take=take).score(asked(instruction_id_list=[name], kwargs=[words]), said(text)).value


@pytest.mark.parametrize(("name", "words", "kept", "broken"), KEPT, ids=[case[0] for case in KEPT])
def test_an_instruction_is_told_kept_from_broken(name: str, words: dict[str, Any], kept: str, broken: str) -> None:
    assert (checked(name, words, kept), checked(name, words, broken), checked(name, words, " ")) == (1.0, 0.0, 0.0)


def test_every_instruction_has_a_case() -> None:
    assert {case[0] for case in KEPT} == set(CHECKS)


@pytest.mark.parametrize(
    ("text", "count"), [("**a** and **b**", 2), ("*a* and **b**", 2), ("****a**", 0), ("** ** *c*", 1), ("*a*b*", 1)]
)
def test_highlights_are_counted_as_ifeval_counts_them(text: str, count: int) -> None:
    checks = [checked("detectable_format:number_highlighted_sections", {"num_highlights": n}, text) for n in range(4)]
    assert checks == [float(n <= count) for n in range(4)]


LONG = ("\n", "<<a", "<<" + "a" * 40, "<<" + " " * 40, ">>", ".", "!? ", "*", "**a", "* ", "-", "[", "Part 1", "\n\n",
        "***", " ", '"', "```", "P.S", "p. p.", "{", "a", "\u00e9")  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_time_grows_no_faster_than_the_text(name: str) -> None:
    words = next(case[1] for case in KEPT if case[0] == name)
    for piece in LONG:
        text = piece * (60_000 // len(piece)) + "x"
        start = time.process_time()
        CHECKS[name](text, **words)
        assert time.process_time() - start < 0.5, f"{piece!r} over and over"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("<<a<b>>", True),
        ("<<a>> or <<", True),
        ("a <<<b", False),
        (">> <<", False),
        ("<<\na>>", False),
        ("<<>>", False),
    ],
)
def test_a_title_is_what_ifeval_finds(text: str, kept: bool) -> None:
    assert checked("detectable_format:title", {}, text) == float(kept)


def test_all_or_the_share_of_the_instructions_counts() -> None:
    prompt = asked(instruction_id_list=["punctuation:no_comma", "startend:quotation"], kwargs=[{}, {"none": None}])
    values = [Instructions(take=take).score(prompt, said("no")).value for take in ("all", "share")]  # type: ignore[arg-type]
    assert values == [0.0, 0.5]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({}, "no instruction_id_list"),
        ({"instruction_id_list": ["a:b"], "kwargs": [{}]}, "not known: a:b"),
        ({"instruction_id_list": ["startend:end_checker"], "kwargs": [{}]}, "end_phrase"),
        ({"instruction_id_list": ["keywords:frequency"], "kwargs": [{"keyword": "a", "frequency": 1, "relation": "x"}]}, "'x'"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_unscorable(columns: dict[str, Any], reason: str) -> None:
    score = Instructions().score(asked(**columns), said("a text"))
    assert score.outcome is Outcome.UNSCORABLE
    assert reason in score.reason


def test_every_row_of_ifeval_can_be_checked_but_those_that_name_a_language(shared_data: Path) -> None:
    lines = (shared_data / "ifeval/ifeval_input_data.jsonl").read_text("utf-8").splitlines()
    failed = set()
    for row in map(json.loads, lines):
        prompt = asked(instruction_id_list=row["instruction_id_list"], kwargs=row["kwargs"])
        score = Instructions().score(prompt, said("A short answer."))
        failed |= {score.reason} if not score.counts else set()
    assert failed == {"not known: language:response_language"}


PACKAGED: list[tuple[Packaged, list[tuple[str, float]]]] = [
    (Sentiment(), [("I love this, thank you!", 0.70), ("I hate this awful thing.", -0.78)]),
    (Spelling(), [("the house is green", 0.0), ("the hoouse is grxeen", -0.5), ("42", 0.0)]),
    (Language(wanted="de"), [("Das ist ein schöner Tag, und wir gehen spazieren.", 1.0), ("This is English.", 0.0), (" ", 0.0)]),
    (MathVerify(), [(r"so it is $\frac{24}{2}$", 1.0), ("the answer is 12", 1.0), ("13", 0.0), ("", 0.0)]),
    (JsonSchema(form={"type": "object", "required": ["a"]}), [('{"a": 1}', 1.0), ('```json\n{"a": 1}\n```', 1.0), ("{}", 0.0), ("a", 0.0)]),
    (Grammar(), [("The house is green.", 0.0), ("he dont has no reason for go", -1 / 7), ("", 0.0)]),
    (Profanity(), [("have a nice day", 0.0), ("you stupid bastard", -1.0)]),
]  # fmt: skip


@pytest.mark.parametrize(("reward", "cases"), PACKAGED, ids=[type(one[0]).__name__ for one in PACKAGED])
def test_a_packaged_scorer_scores_in_its_own_process(reward: Packaged, cases: list[tuple[str, float]]) -> None:
    if importlib.util.find_spec(reward.package) is None:
        pytest.skip(f"no {reward.package}: pip install 'klimb[{reward.extra}]'")
    with reward.open() as score:
        found = [one.value for one in score([asked()] * len(cases), [said(text) for text, _ in cases])]
    assert found == [pytest.approx(value, abs=0.15) for _, value in cases]


@pytest.mark.parametrize("reward", [one[0] for one in PACKAGED], ids=lambda one: type(one).__name__)
def test_a_missing_package_is_one_error_with_its_cure(reward: Packaged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(RewardError, match=rf"no `{reward.package}` package; try: pip install 'klimb\[{reward.extra}\]'"),
        reward.open(),
    ):
        pass


def test_math_that_cannot_be_read_or_ends_never_is_no_zero() -> None:
    pytest.importorskip("math_verify", reason="pip install 'klimb[math]'")
    with MathVerify(deadline=1.5).open() as score:
        unread, hung, right = score(
            [asked(None), asked("9^{9^{9^{9}}}"), asked("7")], [said("1"), said("$9^{9^{9^{9}}}+1$"), said("$7$")]
        )
    assert (unread.outcome, right.value) == (Outcome.UNSCORABLE, 1.0)
    assert hung.outcome in (Outcome.TIMED_OUT, Outcome.SCORED)
