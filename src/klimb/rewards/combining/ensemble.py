"""Ensembles of sources that mean to score the same: their mean, the worst of them, or a mean that doubt lowers.

Coste et al., Reward Model Ensembles Help Mitigate Overoptimization, 2310.02743. Weights only say who is part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from klimb.rewards.combining.base import Combining, Row, table
from klimb.rewards.combining.gdpo import Matrix, standardised


class Ensemble(Combining):
    """What the ensembles share."""

    scale: Literal["raw", "group"] = "raw"
    """`group`: each source's scores are first standardised within the group, for sources of different scales."""

    def scores(self, rows: Sequence[Row], weights: Mapping[str, float]) -> Matrix:
        """The scores (answers, sources)."""
        found = table(rows, self.needs(weights))
        return standardised(found) if self.scale == "group" else found


class Mean(Ensemble):
    """The mean over the sources."""

    type: Literal["mean"] = "mean"

    def combined(self, step: int, rows: Sequence[Row], weights: Mapping[str, float]) -> list[float]:
        found: list[float] = self.scores(rows, weights).mean(1).tolist()
        return found


class Least(Ensemble):
    """Worst-case optimisation (WCO): the least over the sources."""

    type: Literal["least"] = "least"

    def combined(self, step: int, rows: Sequence[Row], weights: Mapping[str, float]) -> list[float]:
        found: list[float] = self.scores(rows, weights).min(1).tolist()
        return found


class Uncertain(Ensemble):
    """Uncertainty-weighted optimisation (UWO): the mean less `penalty` times the variance over the sources."""

    type: Literal["uncertain"] = "uncertain"
    penalty: Annotated[float, Field(ge=0.0)] = 0.5
    """How much doubt costs: the lambda of the paper."""

    def combined(self, step: int, rows: Sequence[Row], weights: Mapping[str, float]) -> list[float]:
        scores = self.scores(rows, weights)
        found: list[float] = (scores.mean(1) - self.penalty * scores.var(1)).tolist()
        return found
