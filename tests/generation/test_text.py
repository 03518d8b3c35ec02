"""Stop strings are found in the text, wherever the tokens' borders are."""

from __future__ import annotations

import pytest

from klimb.generation.engine.rows import Row
from klimb.generation.engine.text import Texts
from klimb.policy.tiny import tiny_tokenizer
from klimb.rewards import Exact, Format
from klimb.types import Completion, Finish, Prompt

TOKENIZER = tiny_tokenizer(64)
PAD, BOS, EOS = 0, 1, 2


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


def drawn(tokens: list[int], *stop: str) -> Completion:
    """What the sampler makes of some tokens, drawn one after the other."""
    texts, row = Texts(TOKENIZER, stop), Row(0, 0, 0, limit=len(tokens))
    for token in tokens:
        row.push(token, -1.0, 1.0, frozenset({EOS}), texts)
    return row.completion(texts)


def test_special_tokens_in_a_completion_stand_in_its_text_and_earn_no_reward() -> None:
    prompt = Prompt("p", text="5 + 7 =", answer="12")
    padded = drawn([BOS] * 3 + tokens_of("12") + [BOS] * 5)
    assert (padded.text, padded.finish) == ("<bos>" * 3 + "12" + "<bos>" * 5, Finish.LENGTH)
    ended = drawn([*tokens_of("12"), PAD, EOS])
    assert (ended.text, ended.finish) == ("12<pad>", Finish.EOS)
    for reward in (Format(), Exact()):
        assert [reward.score(prompt, one).value for one in (padded, ended)] == [0.0, 0.0]
        assert reward.score(prompt, drawn([*tokens_of("12"), EOS])).value == 1.0


def test_stop_strings_are_found_in_what_is_said_and_the_special_tokens_before_them_are_shown() -> None:
    tokens = [BOS, *tokens_of("os € 12"), PAD, *tokens_of("E"), BOS, *tokens_of("ND")]
    stopped = drawn(tokens, "END", "<b", "pad")
    assert (stopped.text, stopped.finish) == ("<bos>os € 12<pad>", Finish.STOP)
    assert drawn([BOS, *tokens_of("aE€")], "€").text == "<bos>aE"


def test_a_special_token_as_stop_string_is_left_out_of_the_text_and_others_are_not() -> None:
    assert drawn([PAD, *tokens_of("hi"), BOS], "<bos>").text == "<pad>hi"


def test_text_that_only_looks_like_a_special_token_is_text() -> None:
    assert drawn([*tokens_of("<bos>hi"), EOS]).text == "<bos>hi"
    assert drawn([PAD, *tokens_of("<bos>hiX")], "X").text == "<pad><bos>hi"
