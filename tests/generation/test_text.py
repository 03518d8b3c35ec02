"""Stop strings are found in the text, wherever the tokens' borders are."""

from __future__ import annotations

import pytest

from klimb.generation.engine.text import Texts
from klimb.policy.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer(64)


def tokens_of(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False))


@pytest.mark.parametrize(("text", "stop"), [("one two END three", "END"), ("größe € und", "€"), ("a\n\nb", "\n\n")])
def test_a_stop_string_over_several_tokens_ends_at_the_token_that_completes_it(text: str, stop: str) -> None:
    texts, tokens = Texts(TOKENIZER, (stop,)), tokens_of(text)
    first = next(n for n in range(1, len(tokens) + 1) if texts.stopped(tokens[:n]))
    assert stop in TOKENIZER.decode(tokens[:first])
    assert stop not in TOKENIZER.decode(tokens[: first - 1])
    assert texts.final(tokens[:first], False) == text[: text.index(stop)]


def test_the_first_of_several_stop_strings_counts() -> None:
    texts = Texts(TOKENIZER, ("three", "wo"))
    assert texts.final(tokens_of("one two three"), False) == "one t"


def test_a_special_token_as_stop_string_stops_by_its_id() -> None:
    texts = Texts(TOKENIZER, ("<bos>",))
    tokens = [*tokens_of("hi"), TOKENIZER.bos_token_id]
    assert texts.stopped(tokens)
    assert not texts.stopped(tokens[:-1])
    assert texts.final(tokens, False) == "hi"


def test_without_stop_strings_nothing_stops_and_eos_is_left_out_of_the_text() -> None:
    texts = Texts(TOKENIZER, ())
    assert not texts.stopped(tokens_of("END"))
    assert texts.final([*tokens_of("hi"), TOKENIZER.eos_token_id], True) == "hi"
