"""How far the probabilities of a reward model can be believed: P(the first is preferred) = s(r_1 - r_2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from klimb.seeds import seed_of

BINS = 10
DRAWS = 400
TOGETHER = 20
"""How many draws are computed at once: memory only."""
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bin:
    """The pairs of which a model is about as sure: their mean s(|gap|), and in what share it is right."""

    pairs: int
    sure: float
    right: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What `calibrated` finds.

    `loss` is the mean of -log s(gap), log 2 where nothing is known. `error` has a 95 % interval from `low` to `high`;
    `chance` is what it would be on average if every probability were true, and no pair told of another.
    """

    loss: float
    error: float
    low: float
    high: float
    chance: float
    bins: tuple[Bin, ...]


def calibrated(gaps: Sequence[float], prompts: Sequence[str] | None = None) -> Calibration:
    """The expected calibration error (Guo et al., 1706.04599, Eq. 3) of reward gaps, chosen minus rejected.

    Pairs are put into ten bins by how sure the model is, s(|gap|) from a half to one; the distance of a bin's accuracy
    from its mean sureness is weighed by its pairs. A tie is sure of a half and half right.

    Of few pairs the error is never 0, whoever is measured, and resampling adds to it. So the interval is the basic
    bootstrap's (twice the error less its quantiles), over `prompts` where they are given, and begins at 0 where a model
    with true probabilities would show such an error in one of forty samples (consistency resampling: Broecker and
    Smith, 2007). Seeded by the number of pairs only. Raises ValueError for no pairs.
    """
    if not len(gaps):
        raise ValueError("the calibration of no pairs")
    gap = np.asarray(gaps, np.float64)
    sure, right = 1 / (1 + np.exp(-np.abs(gap))), (np.sign(gap) + 1) / 2
    places = np.minimum(((sure - 0.5) / 0.5 * BINS).astype(int), BINS - 1)
    inside = np.eye(BINS)[places]
    random = np.random.Generator(np.random.Philox(key=seed_of("calibration", len(gap))))
    error = float(_error(inside.T @ (sure - right), len(gap)))
    drawn = _resampled(inside * (sure - right)[:, None], prompts, random)
    true = _consistent(inside, sure, gap != 0, random)
    low, high = (2 * error - float(np.quantile(drawn, q)) for q in (0.975, 0.025))
    return Calibration(
        loss=float(np.logaddexp(0, -gap).mean()),
        error=error,
        low=0.0 if error <= np.quantile(true, 0.975) else max(0.0, low),
        high=min(1.0, max(error, high)),
        chance=float(true.mean()),
        bins=tuple(
            Bin(int(here.sum()), float(sure[here].mean()), float(right[here].mean()))
            for here in (places == place for place in np.unique(places))
        ),
    )


def _error(apart: Numbers, pairs: ArrayLike) -> Numbers:
    """The error of sums of sureness less being right in each bin (..., bins)."""
    found: Numbers = np.abs(apart).sum(-1) / pairs
    return found


def _resampled(apart: Numbers, prompts: Sequence[str] | None, random: np.random.Generator) -> Numbers:
    """The error in DRAWS samples of as many prompts, taken with replacement; without names each pair is a prompt."""
    _, place = np.unique(np.asarray(range(len(apart)) if prompts is None else prompts), return_inverse=True)
    sums, sizes = np.zeros((place.max() + 1, BINS)), np.bincount(place)
    np.add.at(sums, place, apart)
    shares = np.full(len(sizes), 1 / len(sizes))
    weights = (random.multinomial(len(sizes), shares, TOGETHER).astype(np.float64) for _ in range(DRAWS // TOGETHER))
    return np.concatenate([_error(part @ sums, part @ sizes) for part in weights])


def _consistent(inside: Numbers, sure: Numbers, decided: NDArray[np.bool_], random: np.random.Generator) -> Numbers:
    """The error in DRAWS samples in which each decided pair is right with the probability that the model states."""
    rights = (random.random((TOGETHER, len(sure))) < sure for _ in range(DRAWS // TOGETHER))
    return np.concatenate([_error(((sure - right) * decided) @ inside, len(sure)) for right in rights])
