"""What a model says can move no cursor."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klimb.cli.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc é 你 🙂", "a\nb\tc é 你 🙂"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[H\x1bcgone", "gone"),
        ("\x9b31mred", "red"),
        ("a\rb\x00\x07\x08\x7fc", "abc"),
        ("\u202egnp.exe\u202c", "gnp.exe"),
        ("\ud800x", "x"),
        ("\x1b]0;never closed", ""),
        ("a\x1b", "a"),
    ],
)
def test_sequences_and_controls_are_taken_out_and_text_stays(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(min_codepoint=0, max_codepoint=0x2100)))
def test_nothing_that_controls_a_terminal_is_left(text: str) -> None:
    shown = printable(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    assert printable(shown) == shown
