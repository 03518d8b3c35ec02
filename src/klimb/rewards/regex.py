"""1 where a pattern stands in the completion (or where it does not), else 0."""

from __future__ import annotations

from typing import Literal

from klimb.data.patterns import DEADLINE, Pattern, compiled
from klimb.rewards.base import Reward
from klimb.types import Completion, Outcome, Prompt, Score


class Regex(Reward):
    """Searches the text with a regular expression; `.` matches line ends too."""

    type: Literal["regex"] = "regex"
    pattern: Pattern
    """What is looked for, anywhere in the completion."""
    absent: bool = False
    """1 where it is not found instead."""

    def score(self, prompt: Prompt, completion: Completion) -> Score:
        try:
            found = compiled(self.pattern, across_lines=True).search(completion.text, timeout=DEADLINE) is not None
        except TimeoutError:
            return Score(Outcome.TIMED_OUT, reason=f"the pattern took more than {DEADLINE:g} s")
        return Score.of(float(found is not self.absent))
