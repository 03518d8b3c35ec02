"""Fixed weights: the weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from klimb.rewards.combining.base import Combining, Row, weighted_sum


class Weighted(Combining):
    """The sum of weight times score."""

    type: Literal["weighted"] = "weighted"

    def combined(self, step: int, rows: Sequence[Row], weights: Mapping[str, float]) -> list[float]:
        return [weighted_sum(row, weights) for row in rows]
