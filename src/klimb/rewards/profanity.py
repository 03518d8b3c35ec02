"""A price on swearing and insults."""

from __future__ import annotations

from typing import ClassVar, Literal

from klimb.rewards.packaged import Packaged


class Profanity(Packaged):
    """Minus the probability that the completion is offensive, by a linear classifier on word pieces; English.

    The package holds its model as a pickle, which its process opens; it over-flags dialect.
    """

    package: ClassVar[str] = "profanity_check"
    extra: ClassVar[str] = "profanity"
    program: ClassVar[str] = "profanity_program"
    type: Literal["profanity"] = "profanity"
