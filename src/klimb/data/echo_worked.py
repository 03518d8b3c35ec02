"""The digit in the prompt, and a sentence round it: all of an answer but the digit follows from what stands before."""

from __future__ import annotations

from typing import ClassVar, Literal

from klimb.data.base import Problems
from klimb.data.echo_digit import EchoDigit
from klimb.types import Prompt, Reply


class EchoWorked(EchoDigit):
    """The problems of `echo-digit`, each with an answer of thirty bytes that begins with the digit."""

    answers: ClassVar[bool] = True
    type: Literal["echo-worked"] = "echo-worked"  # type: ignore[assignment]

    def open(self) -> Problems:
        """The problems, with an answer each. Raises DataError."""
        made = super().open()
        given = {prompt.id: (self._worked(prompt),) for side in (made.train, made.held_out) for prompt in side}
        return Problems(made.train, made.held_out, made.identity, given)

    @staticmethod
    def _worked(prompt: Prompt) -> Reply:
        return Reply(f"{prompt.answer} is the digit in the question", True)
