"""What each source of reward costs: calls, completions, failures by cause, seconds."""

from __future__ import annotations

import statistics
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from klimb.types import Score

REMEMBERED = 4096
"""Calls whose seconds are kept, the newest."""
MOST_CAUSES = 5


class Costs:
    """The account of one source."""

    def __init__(self) -> None:
        self._calls, self._largest, self._total = 0, 0, 0.0
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._scores, self._causes = 0, Counter[str]()

    def add(self, scores: Sequence[Score], seconds: float) -> None:
        """One call more."""
        self._calls, self._scores = self._calls + 1, self._scores + len(scores)
        self._largest, self._total = max(self._largest, len(scores)), self._total + seconds
        self._seconds.append(seconds)
        for score in scores:
            if not score.counts:
                self._causes[f"{score.outcome}: {score.reason}"[:120]] += 1

    def summary(self) -> dict[str, Any]:
        """Plain values: seconds are of calls (one call scores a batch), `causes` are the most frequent ones."""
        ordered = sorted(self._seconds)
        return {
            "calls": self._calls,
            "completions": self._scores,
            "largest_batch": self._largest,
            "failed": self._causes.total(),
            "causes": dict(self._causes.most_common(MOST_CAUSES)),
            "seconds": round(self._total, 3),
            "median_s": round(statistics.median(ordered), 4) if ordered else 0.0,
            "p95_s": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 4) if ordered else 0.0,
        }
