"""1 where the completion is the answer, else 0."""

from __future__ import annotations

from typing import Literal

from klimb.data.patterns import DEADLINE, Pattern, last_answer
from klimb.rewards.base import Reward
from klimb.types import Completion, Outcome, Prompt, Score


class Exact(Reward):
    """Compares texts, spaces at both ends left out."""

    type: Literal["exact"] = "exact"
    pattern: Pattern | None = None
    """Where the answer stands in the completion: the first group (or the whole match) of the last match; none = all."""
    ignore_case: bool = False
    """Whether capital and small letters are the same."""

    def score(self, prompt: Prompt, completion: Completion) -> Score:
        if prompt.answer is None:
            return Score(Outcome.UNSCORABLE, reason="the prompt has no answer")
        try:
            said = completion.text if self.pattern is None else last_answer(self.pattern, completion.text)
        except TimeoutError:
            return Score(Outcome.TIMED_OUT, reason=f"the pattern took more than {DEADLINE:g} s")
        if said is None:
            return Score.of(0.0, "no match")
        return Score.of(float(self._plain(said) == self._plain(prompt.answer)))

    def _plain(self, text: str) -> str:
        return text.strip().casefold() if self.ignore_case else text.strip()
