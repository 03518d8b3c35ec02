"""1 where the number that the completion ends with equals the answer, else 0."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from klimb.rewards.base import Reward
from klimb.rewards.numbers import read_all, read_one
from klimb.types import Completion, Outcome, Prompt, Score


class Numeric(Reward):
    """Compares numbers exactly: 12, 12.0, 24/2 and 1.2e1 are the same; `1,080` is one number, `1, 080` are two."""

    type: Literal["numeric"] = "numeric"
    take: Literal["last", "first", "only"] = "last"
    """Which number of the text counts; `only` = one that is the only one."""
    tolerance: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """How far off an answer may be, as a share of the right one."""

    def score(self, prompt: Prompt, completion: Completion) -> Score:
        right = read_one(prompt.answer) if prompt.answer is not None else None
        if right is None:
            return Score(Outcome.UNSCORABLE, reason=f"the prompt's answer is not one number: {prompt.answer!r:.80}")
        numbers = read_all(completion.text)
        if not numbers or (self.take == "only" and len(numbers) > 1):
            return Score.of(0.0, f"{len(numbers)} numbers" if numbers else "no number")
        said = numbers[0 if self.take == "first" else -1]
        if said is None:
            return Score.of(0.0, "a number that cannot be read")
        return Score.of(float(abs(said - right) <= Fraction(self.tolerance) * abs(right)))
