"""A reward that is paid only where other scores are high enough: safety first, or form first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from klimb.errors import KlimbError
from klimb.rewards.combining.base import Combining, Row, unknown, weighted_sum


class Gated(Combining):
    """The weighted sum where every gate's score is at least its threshold; `otherwise` elsewhere."""

    type: Literal["gated"] = "gated"
    gates: Annotated[dict[str, float], Field(min_length=1)]
    """The least score of each source that is a gate."""
    otherwise: float = 0.0
    """The reward of what does not pass."""

    def combined(self, step: int, rows: Sequence[Row], weights: Mapping[str, float]) -> list[float]:
        return [
            weighted_sum(row, weights)
            if all(row[name] >= least for name, least in self.gates.items())
            else self.otherwise
            for row in rows
        ]

    def needs(self, weights: Mapping[str, float]) -> tuple[str, ...]:
        return tuple(name for name, weight in weights.items() if weight != 0 or name in self.gates)

    def conflicts(self, weights: Mapping[str, float]) -> Iterator[KlimbError]:
        yield from super().conflicts(weights)
        yield from unknown("combining.gates", self.gates, weights)
