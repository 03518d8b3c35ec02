"""Sums and differences of a few small numbers, asked in words through the chat template: the demo's task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from klimb.data.generated import Draws, Generated, Operands
from klimb.errors import KlimbError


class ChainSum(Generated):
    """`State the final answer to the following arithmetic problem: 34 - 8 =`.

    Problems with the same numbers are one class, in whatever order and with whatever signs: where 34 - 8 is held out,
    34 + 8 and 8 + 34 are too.
    """

    type: Literal["chain-sum"] = "chain-sum"
    form: Literal["chat", "text"] = "chat"
    frame: str = "State the final answer to the following arithmetic problem: {question}"
    min_terms: Annotated[int, Field(ge=2, le=10)] = 2
    """The fewest numbers in a problem."""
    max_terms: Annotated[int, Field(ge=2, le=10)] = 2
    """The most numbers in a problem."""
    min_digits: Annotated[int, Field(ge=1, le=9)] = 1
    """The fewest digits of a number."""
    max_digits: Annotated[int, Field(ge=1, le=9)] = 2
    """The most digits of a number."""
    same_digits: bool = True
    """Whether all numbers of a problem have as many digits; else each has its own."""

    def faults(self) -> list[KlimbError]:
        """Ranges that are upside down."""
        pairs = [("terms", self.min_terms, self.max_terms), ("digits", self.min_digits, self.max_digits)]
        return [
            KlimbError(f"min_{name} is at most max_{name}", f"{least} and {most}", f"min_{name}={most}")
            for name, least, most in pairs
            if least > most
        ]

    def draw(self, draws: Draws) -> Operands:
        terms = draws.between(self.min_terms, self.max_terms)
        digits = [draws.between(self.min_digits, self.max_digits) for _ in range(1 if self.same_digits else terms)]
        numbers = [self._number(draws, count) for count in (digits * terms)[:terms]]
        parts: list[int | str] = [numbers[0]]
        for number in numbers[1:]:
            parts += ["+-"[draws.below(2)], number]
        return tuple(parts)

    def _number(self, draws: Draws, digits: int) -> int:
        return draws.between(0 if digits == 1 else 10 ** (digits - 1), 10**digits - 1)

    def question(self, operands: Operands) -> str:
        return " ".join(map(str, operands)) + " ="

    def answer(self, operands: Operands) -> str:
        signed = zip(("+", *operands[1::2]), operands[::2], strict=True)
        return str(sum(int(number) if sign == "+" else -int(number) for sign, number in signed))

    def kind(self, operands: Operands) -> str:
        return repr(sorted(int(number) for number in operands[::2]))
