"""Text that a model (or anybody) wrote, made harmless to look at: it can move no cursor and turn no writing around."""

from __future__ import annotations

import unicodedata

HARMLESS = "\u200c\u200d\ufe0e\ufe0f"
"""Joiners and variation selectors: they shape scripts and emoji and hide nothing."""
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str, *, lines: bool = True, limit: int = 20_000) -> str:
    """The text with every control, bidi and invisible character written out as ⟨U+202E⟩, at most `limit` characters.

    Newlines and tabs stay where `lines`; else they show as ⏎ and a space, so that the text is one line.
    """
    shown = "".join(_seen(letter, lines) for letter in text[:limit])
    return shown + f" ⟨{len(text) - limit} more characters⟩" if len(text) > limit else shown


def _seen(letter: str, lines: bool) -> str:
    if letter in "\n\t":
        return letter if lines else ("⏎" if letter == "\n" else " ")
    if letter.isprintable() or letter in HARMLESS:
        return letter
    return f"⟨U+{ord(letter):04X}⟩" if unicodedata.category(letter) in _UNSEEN else " "
