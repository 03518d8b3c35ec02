"""How two lists of numbers hang together: rank correlations, over everything or within prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def ranks(values: Numbers) -> Numbers:
    """The rank of each of (n,) values from 0, equal ones sharing the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    shared: Numbers = (np.cumsum(count) - (count + 1) / 2)[place]
    return shared


def spearman(first: Numbers, second: Numbers) -> float | None:
    """The correlation of the ranks of (n,) values; None where either does not vary."""
    a, b = (ranks(one) - (len(one) - 1) / 2 for one in (first, second))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else None


def within(first: Numbers, second: Numbers, groups: Sequence[int]) -> float | None:
    """Spearman's correlation inside the groups, pooled: what differs from prompt to prompt has no part in it.

    sum_g a_g.b_g / sqrt(sum_g a_g.a_g * sum_g b_g.b_g), with a_g, b_g the centred ranks in group g of the answers that
    have both values; a group where either does not vary says nothing and is left out. NaN = no value. `groups` (n,)
    names each answer's group. None where no group says anything.
    """
    named, total = np.asarray(groups), np.zeros(3)
    there = ~(np.isnan(first) | np.isnan(second))
    for group in np.unique(named[there]):
        rows = there & (named == group)
        a, b = (ranks(one[rows]) - (rows.sum() - 1) / 2 for one in (first, second))
        sums = np.array([a @ b, a @ a, b @ b])
        total += sums if sums[1] > 0 and sums[2] > 0 else 0.0
    return float(total[0] / np.sqrt(total[1] * total[2])) if total[1] > 0 else None
