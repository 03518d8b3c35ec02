"""Text on the page: what cannot be seen is written out, and what is long is cut."""

from __future__ import annotations

import json

import pytest

from klimb.lens.text import embedded, shown, token
from klimb.lens.words import Words
from klimb.policy.tiny import tiny_tokenizer


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\u200b\u200c\u200d\ufeff", "⟨U+200B⟩⟨U+200C⟩⟨U+200D⟩⟨U+FEFF⟩"),
        ("\x00\x1b[31m", "⟨U+0000⟩⟨U+001B⟩[31m"),
        ("\ud800", "⟨U+D800⟩"),
        ("<b>&amp;", "<b>&amp;"),
        ("two\nlines\tand", "two\nlines\tand"),
        ("e\u0301" + "\u0302" * 4, "e\u0301\u0302\u0302⟨U+0302⟩⟨U+0302⟩"),
        ("日本語 עברית", "日本語 עברית"),
    ],
)
def test_hidden_letters_are_written_out_and_others_stay(text: str, says: str) -> None:
    assert shown(text) == says


def test_what_is_long_is_cut_and_says_by_how_much() -> None:
    assert token("x" * 1_000_000) == "x" * 48 + " ⟨999952 more characters⟩"
    assert token("\u0301") == "◌\u0301"


def test_embedded_json_cannot_end_its_element_and_reads_back() -> None:
    value = {"</script>": ["<!--", "&", "\ud800", "\u2028"]}
    text = embedded(value)
    assert not set("<>&") & set(text)
    assert text.isascii()
    assert json.loads(text) == value


def test_a_part_of_a_character_shows_its_bytes_and_an_unknown_tokenizer_the_number() -> None:
    tokenizer = tiny_tokenizer(64)
    first, *_ = tokenizer("é", add_special_tokens=False)["input_ids"]
    words = Words(tokenizer)
    assert words(first) == "⟨C3⟩"
    assert words(tokenizer.eos_token_id) == "<eos>"
    assert words(tokenizer(" ", add_special_tokens=False)["input_ids"][0]) == " "
    assert Words(None)(77) == "⟨77⟩"
