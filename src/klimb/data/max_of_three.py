"""The largest of three numbers, as text with solved examples before it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from klimb.data.generated import Draws, Generated, Operands


class MaxOfThree(Generated):
    """`max(17, 4, 62) =` and the answer ` 62`."""

    type: Literal["max-of-three"] = "max-of-three"
    below: Annotated[int, Field(ge=10, le=10**9)] = 100
    """The numbers are smaller than this."""
    shots: Annotated[int, Field(ge=0, le=64)] = 4

    def draw(self, draws: Draws) -> Operands:
        return tuple(draws.below(self.below) for _ in range(3))

    def question(self, operands: Operands) -> str:
        return f"max({', '.join(map(str, operands))}) ="

    def answer(self, operands: Operands) -> str:
        return str(max(map(int, operands)))
