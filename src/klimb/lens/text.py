"""Text that a model wrote, as it may stand on a page: what cannot be seen is written out, what overlaps is bounded."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from klimb.tracking.visible import HARMLESS, visible

LONGEST_TOKEN = 48
"""Characters of a token that are shown in the running text."""
LONGEST_TEXT = 20_000
"""Characters of a prompt, an answer or a whole completion that are shown."""
MOST_MARKS = 3
"""Combining marks that may stand on one letter; more would cover the lines around it."""


def shown(text: str, limit: int = LONGEST_TEXT) -> str:
    """The text with invisible characters written out as ⟨U+200B⟩, joiners too; newlines and tabs stay."""
    more = len(text) - limit
    plain = visible(_bounded(text[:limit]), limit=4 * limit)
    for letter in HARMLESS:
        plain = plain.replace(letter, f"⟨U+{ord(letter):04X}⟩")
    return plain + f" ⟨{more} more characters⟩" if more > 0 else plain


def token(text: str) -> str:
    """A token for the running text: short, and never a mark on its neighbour's last letter."""
    alone = "\N{DOTTED CIRCLE}" + text if text and unicodedata.combining(text[0]) else text
    return shown(alone, LONGEST_TOKEN)


def embedded(value: Any) -> str:
    """JSON for a script element of type application/json: ASCII without <, > and &, so that nothing can end it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _bounded(text: str) -> str:
    """The text with all but the first marks on a letter written out."""
    if text.isascii():
        return text
    done, run = [], 0
    for letter in text:
        run = run + 1 if unicodedata.category(letter) in ("Mn", "Me") else 0
        done.append(f"⟨U+{ord(letter):04X}⟩" if run > MOST_MARKS else letter)
    return "".join(done)
