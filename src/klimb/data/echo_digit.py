"""Say the digit that stands in the prompt: a task of a few bytes, for a tiny model with random weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from klimb.data.generated import Draws, Generated, Operands

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class EchoDigit(Generated):
    """`k7=` and the answer `7`. The letters only tell prompts apart; held-out ones join known digits to new letters."""

    type: Literal["echo-digit"] = "echo-digit"
    train: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    held_out: Annotated[int, Field(ge=1, le=100_000)] = 48
    letters: Annotated[int, Field(ge=1, le=8)] = 1
    """How many letters stand before the digit; one letter makes 260 problems."""
    digits: Annotated[int, Field(ge=2, le=10)] = 10
    """How many different digits there are, from 0 up: fewer is easier."""

    def draw(self, draws: Draws) -> Operands:
        return ("".join(LETTERS[draws.below(26)] for _ in range(self.letters)), draws.below(self.digits))

    def question(self, operands: Operands) -> str:
        return f"{operands[0]}{operands[1]}="

    def answer(self, operands: Operands) -> str:
        return str(operands[1])
