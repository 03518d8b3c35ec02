"""How far reward sources agree, with people and with each other, on preference pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from klimb.correlation import Numbers, spearman
from klimb.evaluation.calibration import Calibration, calibrated
from klimb.evaluation.intervals import clustered
from klimb.evaluation.opinions import Opinion


@dataclass(frozen=True, slots=True)
class Row:
    """One source.

    `accuracy` = the share of the scored pairs whose chosen answer scores higher, a tie as a half, with its 95 %
    interval; `failed` counts answers, `ms` is the mean time of one answer. `calibration` is of sources whose difference
    of scores states the log-odds of a preference.
    """

    name: str
    scored: int
    ties: int
    accuracy: float | None
    low: float | None
    high: float | None
    mean: float | None
    std: float | None
    failed: int
    failures: dict[str, int]
    ms: float
    calibration: Calibration | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """Two sources.

    `agreement` = among the `ranked` pairs (scored without a tie by both), how often both prefer the same answer;
    `correlation` = Spearman's, of their score differences over the pairs that both scored.
    """

    first: str
    second: str
    ranked: int
    agreement: float | None
    correlation: float | None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The table.

    The shares at the end are of the `together` pairs that every source scored: two sources or more prefer different
    answers; the chosen answer has the majority of those that prefer any (a draw as a half); one at least prefers it.
    """

    pairs: int
    prompts: int
    rows: tuple[Row, ...]
    cells: tuple[Cell, ...]
    together: int
    conflict: float | None
    majority: float | None
    oracle: float | None

    def record(self) -> dict[str, Any]:
        """All of it as JSON would have it."""
        return asdict(self)


def compare(opinions: Sequence[Opinion], prompts: Sequence[str]) -> Disagreement:
    """The table of what the sources said. `prompts` names each pair's prompt: intervals resample prompts, not pairs."""
    gaps = {one.name: one.gaps for one in opinions}
    cells = tuple(_cell(a, b, gaps[a], gaps[b]) for a, b in combinations(gaps, 2))
    every = np.stack(list(gaps.values()))
    votes = np.sign(every[:, ~np.isnan(every).any(0)])
    return Disagreement(
        pairs=len(prompts),
        prompts=len(set(prompts)),
        rows=tuple(_row(one, prompts) for one in opinions),
        cells=cells,
        together=votes.shape[1],
        conflict=_mean((votes > 0).any(0) & (votes < 0).any(0)),
        majority=_mean((np.sign(votes.sum(0)) + 1) / 2),
        oracle=_mean((votes > 0).any(0)),
    )


def _row(one: Opinion, prompts: Sequence[str]) -> Row:
    gaps = one.gaps
    there = ~np.isnan(gaps)
    values = [score.value for score in (*one.chosen, *one.rejected) if score.value is not None]
    share, low, high, sure = None, None, None, None
    if there.any():
        kept = [name for name, scored in zip(prompts, there, strict=True) if scored]
        share, low, high = clustered(((np.sign(gaps[there]) + 1) / 2).tolist(), kept)
        sure = None if one.unit is None else calibrated((one.unit * gaps[there]).tolist(), kept)
    failures = dict(one.failures.most_common())
    return Row(
        name=one.name,
        scored=int(there.sum()),
        ties=int((gaps == 0).sum()),
        accuracy=share,
        low=low,
        high=high,
        mean=_mean(values),
        std=float(np.std(values)) if values else None,
        failed=sum(failures.values()),
        failures=failures,
        ms=1000 * one.seconds / (2 * len(prompts)),
        calibration=sure,
    )


def _cell(first: str, second: str, a: Numbers, b: Numbers) -> Cell:
    both = ~np.isnan(a) & ~np.isnan(b)
    ranked = both & (a != 0) & (b != 0)
    same = np.sign(a[ranked]) == np.sign(b[ranked])
    return Cell(first, second, int(ranked.sum()), _mean(same), spearman(a[both], b[both]))


def _mean(values: ArrayLike) -> float | None:
    return float(np.asarray(values, np.float64).mean()) if np.size(values) else None
