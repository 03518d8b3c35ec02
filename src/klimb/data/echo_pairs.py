"""Preferences that a tiny model can learn: of two digits, the one that stands in the prompt is preferred."""

from __future__ import annotations

from typing import ClassVar, Literal

from klimb.data.base import Problems
from klimb.data.echo_digit import EchoDigit
from klimb.data.generated import Draws
from klimb.types import Prompt, Reply


class EchoPairs(EchoDigit):
    """The problems of `echo-digit`, each with the right digit preferred over a wrong one."""

    answers: ClassVar[bool] = True
    type: Literal["echo-pairs"] = "echo-pairs"  # type: ignore[assignment]

    def open(self) -> Problems:
        """The problems, with two answers each. Raises DataError."""
        made = super().open()
        given = {prompt.id: self._pair(prompt) for side in (made.train, made.held_out) for prompt in side}
        return Problems(made.train, made.held_out, made.identity, given)

    def _pair(self, prompt: Prompt) -> tuple[Reply, Reply]:
        right = int(prompt.answer or 0)
        wrong = (right + Draws(self.type, prompt.id, self.seed).between(1, self.digits - 1)) % self.digits
        return Reply(str(right), True), Reply(str(wrong), False)
