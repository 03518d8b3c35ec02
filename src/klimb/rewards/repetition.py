"""A price on saying the same again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from klimb.rewards.base import Reward
from klimb.types import Completion, Prompt, Score


class Repetition(Reward):
    """Minus the share of n-grams that stood before: 0 where all differ, near -1 for one phrase over and over."""

    type: Literal["repetition"] = "repetition"
    n: Annotated[int, Field(ge=1, le=64)] = 3
    """How many units make a phrase."""
    unit: Literal["words", "tokens"] = "words"
    """What is counted; words are what spaces part, capitals aside."""

    def score(self, prompt: Prompt, completion: Completion) -> Score:
        units = completion.tokens if self.unit == "tokens" else completion.text.casefold().split()
        phrases = [tuple(units[start : start + self.n]) for start in range(len(units) - self.n + 1)]
        return Score.of(len(set(phrases)) / len(phrases) - 1.0 if phrases else 0.0)
