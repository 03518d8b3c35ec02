"""1 where the completion has a given form, else 0."""

from __future__ import annotations

from typing import Literal

from klimb.data.patterns import DEADLINE, Pattern, compiled
from klimb.rewards.base import Reward
from klimb.types import Completion, Outcome, Prompt, Score


class Format(Reward):
    """Matches the whole text, spaces at both ends left out, with a regular expression; `.` matches line ends too."""

    type: Literal["format"] = "format"
    pattern: Pattern = r"-?[0-9]+"
    """What the whole completion must look like; the default is a number and nothing else."""

    def score(self, prompt: Prompt, completion: Completion) -> Score:
        try:
            fits = compiled(self.pattern, across_lines=True).fullmatch(completion.text.strip(), timeout=DEADLINE)
        except TimeoutError:
            return Score(Outcome.TIMED_OUT, reason=f"the pattern took more than {DEADLINE:g} s")
        return Score.of(float(fits is not None))
