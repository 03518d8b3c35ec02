"""Weights that change as training goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from klimb.errors import KlimbError
from klimb.rewards.combining.base import Combining, Row, unknown, weighted_sum


class Scheduled(Combining):
    """The weighted sum, with weights that go in straight lines from point to point, and stay before and after."""

    type: Literal["scheduled"] = "scheduled"
    points: dict[str, dict[int, float]]
    """For each source whose weight changes: its weight by step. The others keep theirs."""

    def combined(self, step: int, rows: Sequence[Row], weights: Mapping[str, float]) -> list[float]:
        now = {**weights, **{name: _between(points, step) for name, points in self.points.items()}}
        return [weighted_sum(row, now) for row in rows]

    def needs(self, weights: Mapping[str, float]) -> tuple[str, ...]:
        return tuple(name for name, weight in weights.items() if weight != 0 or name in self.points)

    def conflicts(self, weights: Mapping[str, float]) -> Iterator[KlimbError]:
        yield from super().conflicts(weights)
        yield from unknown("combining.points", self.points, weights)
        for name, points in self.points.items():
            if not points or min(points) < 0:
                yield KlimbError(
                    f"the weight of reward {name!r} by step", f"{points}", "steps from 0 on, such as {0: 1.0, 100: 0.0}"
                )
        if not self.points:
            yield KlimbError("weights that change", "no combining.points", "combining.type=weighted, or some points")


def _between(points: Mapping[int, float], step: int) -> float:
    steps = sorted(points)
    return float(np.interp(step, steps, [points[at] for at in steps]))
