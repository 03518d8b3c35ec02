"""A price on mistakes of grammar and spelling."""

from __future__ import annotations

from typing import ClassVar, Literal

from klimb.rewards.packaged import Packaged


class Grammar(Packaged):
    """Minus the findings of the checker Harper per word, at most 1; 0 for a text without words. English."""

    package: ClassVar[str] = "harper"
    extra: ClassVar[str] = "grammar"
    program: ClassVar[str] = "grammar_program"
    type: Literal["grammar"] = "grammar"
