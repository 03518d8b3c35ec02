"""What most sources agree on: answers are compared in pairs, and a pair counts only where enough see it alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from klimb.rewards.combining.base import Combining, Row, table


class Agreement(Combining):
    """How many of the other answers this one beats, less how many beat it, over their number: between -1 and 1.

    An answer beats another where more than `quorum` of the sources score it higher: pairs that are in dispute count
    for nobody. The agreement ensemble of LASeR's paper (2410.01735), made a reward of an answer.
    """

    type: Literal["agreement"] = "agreement"
    quorum: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.5
    """More than this share of the sources must see it so."""

    def combined(self, step: int, rows: Sequence[Row], weights: Mapping[str, float]) -> list[float]:
        scores = table(rows, self.needs(weights))
        higher = (scores[:, None] > scores[None]).mean(2) > self.quorum
        found: list[float] = ((higher.sum(1) - higher.sum(0)) / max(len(rows) - 1, 1)).astype(np.float64).tolist()
        return found
