"""The difference of two numbers, never negative, as text with solved examples before it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from klimb.data.generated import Draws, Generated, Operands


class Difference(Generated):
    """`17 - 9 =` and the answer ` 8`."""

    type: Literal["difference"] = "difference"
    below: Annotated[int, Field(ge=10, le=10**9)] = 20
    """The numbers are smaller than this; below 20 there are 210 problems."""
    shots: Annotated[int, Field(ge=0, le=64)] = 4

    def draw(self, draws: Draws) -> Operands:
        one, other = draws.below(self.below), draws.below(self.below)
        return (max(one, other), min(one, other))

    def question(self, operands: Operands) -> str:
        return f"{operands[0]} - {operands[1]} ="

    def answer(self, operands: Operands) -> str:
        return str(int(operands[0]) - int(operands[1]))
