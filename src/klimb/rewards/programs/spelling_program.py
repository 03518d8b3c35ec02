"""The program of the source `spelling`. Loaded by its path; imports nothing of klimb."""

from __future__ import annotations

import re

from spellchecker import SpellChecker

KNOWN = SpellChecker()


def score(completion: str) -> float:
    """Minus the share of words that the dictionary does not know."""
    words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", completion.lower())
    return -sum(word not in KNOWN for word in words) / len(words) if words else 0.0
