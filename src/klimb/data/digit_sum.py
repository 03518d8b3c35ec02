"""The sum of three digits, as text with solved examples before it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from klimb.data.generated import Draws, Generated, Operands


class DigitSum(Generated):
    """`4 + 8 + 1 =` and the answer ` 13`: 1,000 problems of 220 classes (the same digits in any order are one)."""

    type: Literal["digit-sum"] = "digit-sum"
    held_out: Annotated[int, Field(ge=1, le=1000)] = 192
    shots: Annotated[int, Field(ge=0, le=64)] = 4

    def draw(self, draws: Draws) -> Operands:
        return tuple(draws.below(10) for _ in range(3))

    def question(self, operands: Operands) -> str:
        return " + ".join(map(str, operands)) + " ="

    def answer(self, operands: Operands) -> str:
        return str(sum(map(int, operands)))
