"""How sure a measured share is: intervals for one share and for the difference of two on the same problems."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from klimb.seeds import seed_of

Z95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of after - before over `n` problems, with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int


def wilson(right: float, n: int, z: float = Z95) -> tuple[float, float]:
    """The score interval of a share of `right` in `n` (Wilson 1927); (0, 1) for n = 0. Raises ValueError.

    `right` may be a sum of n numbers from 0 to 1, which vary no more than hits and misses of the same mean.
    """
    if not 0 <= right <= n:
        raise ValueError(f"{right} right of {n}")
    if n == 0:
        return 0.0, 1.0
    share, square = right / n, z * z
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)


def normal(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of `values` and its normal 95 % interval; one value is its own. Raises ValueError for none."""
    if not values:
        raise ValueError("the mean of no values")
    mean, half = fmean(values), 1.96 * stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return mean, mean - half, mean + half


def paired_bootstrap(before: Sequence[float], after: Sequence[float], draws: int = 10_000) -> Difference:
    """The mean difference of two scores per problem, with the percentile interval over resampled problems.

    The resampling is seeded by the number of problems only, so that the same scores give the same interval.
    Raises ValueError where the two are not equally long, or empty.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"{len(before)} scores before and {len(after)} after")
    change = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    values, counts = np.unique(change, return_counts=True)
    random = np.random.Generator(np.random.Philox(key=seed_of("bootstrap", len(change))))
    means = random.multinomial(len(change), counts / len(change), draws) @ values / len(change)
    low, high = np.quantile(means, (0.025, 0.975))
    return Difference(float(change.mean()), float(low), float(high), len(change))


def clustered(values: Sequence[float], clusters: Sequence[str], draws: int = 2000) -> tuple[float, float, float]:
    """The mean of `values` and its 95 % percentile interval over resampled clusters, such as prompts.

    A draw is the sum of the values over their number, in as many clusters as there are, taken with replacement; seeded
    by the number of clusters only. Raises ValueError where the two are not equally long, or empty.
    """
    if len(values) != len(clusters) or not values:
        raise ValueError(f"{len(values)} values in {len(clusters)} clusters")
    _, place = np.unique(np.asarray(clusters), return_inverse=True)
    sums, sizes = np.bincount(place, np.asarray(values, np.float64)), np.bincount(place)
    random = np.random.Generator(np.random.Philox(key=seed_of("clusters", len(sums))))
    drawn = random.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), draws)
    low, high = np.quantile((drawn @ sums) / (drawn @ sizes), (0.025, 0.975))
    return float(sums.sum() / sizes.sum()), float(low), float(high)
