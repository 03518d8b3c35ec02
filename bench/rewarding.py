"""The reward of the benchmark, the same function on both sides."""

from __future__ import annotations


def value(text: str) -> float:
    """Between 0 and 1, and different for nearly every text: so no group is without a signal, and both sides train all rows.

    klimb does not train a group whose rewards are all equal; a benchmark of equal work must not let it.
    """
    return (sum(text.encode()) % 997) / 996
