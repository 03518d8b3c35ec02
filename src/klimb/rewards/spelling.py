"""A price on words that are not in the dictionary."""

from __future__ import annotations

from typing import ClassVar, Literal

from klimb.rewards.packaged import Packaged


class Spelling(Packaged):
    """Minus the share of words that pyspellchecker's English dictionary does not know; 0 for a text without words."""

    package: ClassVar[str] = "spellchecker"
    extra: ClassVar[str] = "spelling"
    program: ClassVar[str] = "spelling_program"
    type: Literal["spelling"] = "spelling"
