"""The combined reward: a weighted sum, which is there only where every source that counts has scored."""

from __future__ import annotations

from collections.abc import Mapping

from klimb.types import Score


def combine(scores: Mapping[str, Score], weights: Mapping[str, float]) -> float | None:
    """sum of weight times value over the sources with a weight; None where any of those has no score."""
    total = 0.0
    for name, weight in weights.items():
        if weight == 0:
            continue
        score = scores.get(name)
        if score is None or score.value is None:
            return None
        total += weight * score.value
    return total
