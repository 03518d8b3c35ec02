"""The reward of the benchmark, the same function on both sides."""

from __future__ import annotations


def value(text: str) -> float:
    """A number between 0 and 1 that differs for nearly every text, so that no group is without a signal.

    klimb does not train a group whose rewards are all equal; a benchmark of equal work must not let it.
    """
    return (sum(text.encode()) % 997) / 996


def reward(prompt: object, completion: str, answer: object) -> float:
    """The form in which klimb calls it."""
    return value(completion)
