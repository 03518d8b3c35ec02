"""Each source normalised within the group before they are summed, so that none drowns the others (GDPO)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from klimb.rewards.combining.base import Combining, Row, table

Matrix = NDArray[np.float64]
SMALL = 1e-4
"""Added to each standard deviation."""


class Gdpo(Combining):
    """sum over the sources of weight times (score - mean of the group) / (standard deviation of the group).

    A source that scores all answers to a prompt alike adds nothing there. The objective then makes its advantage of
    these numbers as of any reward.
    """

    type: Literal["gdpo"] = "gdpo"

    def combined(self, step: int, rows: Sequence[Row], weights: Mapping[str, float]) -> list[float]:
        names = self.needs(weights)
        scores = standardised(table(rows, names))
        total: list[float] = (scores @ np.array([weights[name] for name in names])).tolist()
        return total


def standardised(values: Matrix) -> Matrix:
    """Each column (rows, sources) less its mean, over its standard deviation (of the sample; zero for one row)."""
    apart: Matrix = values - values.mean(0)
    if len(values) < 2:
        return apart
    out: Matrix = apart / (apart.std(0, ddof=1) + SMALL)
    return out
