"""Distributions over the tokens of some rollouts: numbers for plots, as plain values that go into JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

RHO = 0.2
"""The share of tokens that Beyond the 80/20 Rule (2506.01939) calls forking."""
LOW = 0.01
"""Nats under which that paper counts a token as certain."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many tokens lie between each two of the edges."""

    edges: list[float]
    counts: list[int]


@dataclass(frozen=True, slots=True)
class Bin:
    """Some tokens together: where they lie (from, to), the mean of a value over them, how many they are."""

    start: float
    stop: float
    mean: float
    count: int


@dataclass(frozen=True, slots=True)
class Word:
    """A token string's average entropy over its occurrences."""

    token: int
    mean: float
    count: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """The share of a top set that is in another one, the size of that set, and of how many tokens it is the top."""

    share: float
    of: int
    tokens: int


def top(entropy: Floats, rho: float = RHO) -> Mask:
    """The ceil(rho n) tokens of highest entropy; of equal ones the earlier first."""
    chosen = np.zeros(entropy.size, bool)
    count = math.ceil(rho * entropy.size - 1e-9)
    chosen[np.argsort(-entropy, kind="stable")[:count]] = True
    return chosen


def threshold(entropy: Floats, rho: float = RHO) -> float | None:
    """The lowest entropy in that set; None where there are no tokens."""
    return float(entropy[top(entropy, rho)].min()) if entropy.size else None


def share_under(entropy: Floats, bound: float = LOW) -> float | None:
    """The share of tokens whose entropy is below a bound."""
    return float((entropy < bound).mean()) if entropy.size else None


def histogram(values: Floats, bins: int = 40) -> Histogram:
    """Equal bins from zero to the largest value."""
    counts, edges = np.histogram(values, bins=bins, range=(0.0, max(1e-6, float(values.max(initial=0.0)))))
    return Histogram([round(float(edge), 6) for edge in edges], [int(count) for count in counts])


def by_word(tokens: Ints, entropy: Floats, least: int, most: int = 15) -> tuple[list[Word], list[Word]]:
    """The token ids of highest and of lowest average entropy among those that occur at least `least` times.

    None stands in both lists: where there are few, the upper half is high and the lower half low.
    """
    ids, where = np.unique(tokens, return_inverse=True)
    counts = np.bincount(where, minlength=ids.size)
    means = np.bincount(where, weights=entropy, minlength=ids.size) / np.maximum(counts, 1)
    often = np.flatnonzero(counts >= least)
    order = often[np.argsort(-means[often], kind="stable")]
    words = [Word(int(ids[place]), float(means[place]), int(counts[place])) for place in order]
    half = min(most, (len(words) + 1) // 2)
    return words[:half], words[half:][-most:][::-1]


def by_position(row: Ints, values: Floats, bins: int = 40) -> list[Bin]:
    """The mean of a value over places in the completion, in at most `bins` equal stretches."""
    if not row.size:
        return []
    starts = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
    place = np.arange(row.size) - np.repeat(starts, np.diff(np.r_[starts, row.size]))
    width = max(1, -(-int(place.max() + 1) // bins))
    return _binned(place // width, values, [(n * width, (n + 1) * width) for n in range(int(place.max()) // width + 1)])


def kept_by_reward(kept: Mask, reward: Floats, most: int = 8) -> list[Bin]:
    """The share of tokens kept by the reward of their row: one bin a value, or equal stretches where there are many."""
    known = np.isfinite(reward)
    kept, reward = kept[known], reward[known]
    values, where = np.unique(reward, return_inverse=True)
    if values.size <= most:
        return _binned(where, kept.astype(np.float32), [(float(value), float(value)) for value in values])
    edges = np.linspace(values[0], values[-1], most + 1)
    where = np.clip(np.searchsorted(edges, reward, "right") - 1, 0, most - 1)
    return _binned(where, kept.astype(np.float32), list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)))


def overlap(one: Floats, other: Floats, rho: float = RHO) -> Overlap | None:
    """The share of the top-rho set of `one` that is in that of `other`, over the same tokens; None where none are."""
    mine = top(one, rho)
    of = int(mine.sum())
    return Overlap(float((mine & top(other, rho)).sum() / of), of, one.size) if of else None


def change_by_percentile(before: Floats, after: Floats, bins: int = 20) -> list[Bin]:
    """The mean change of entropy in bins of equal size by the entropy before; ends in percent of the tokens."""
    rank = np.empty(before.size, np.int64)
    rank[np.argsort(before, kind="stable")] = np.arange(before.size)
    step = 100.0 / bins
    return _binned(
        rank * bins // max(1, before.size), after - before, [(n * step, (n + 1) * step) for n in range(bins)]
    )


def _binned(where: NDArray[np.integer], values: Floats, ends: Sequence[tuple[float, float]]) -> list[Bin]:
    counts = np.bincount(where, minlength=len(ends))
    sums = np.bincount(where, weights=values, minlength=len(ends))
    return [
        Bin(start, stop, float(total / count), int(count))
        for (start, stop), total, count in zip(ends, sums, counts, strict=True)
        if count
    ]
