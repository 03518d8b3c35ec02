"""Four rules as a user would write them, each of which klimb runs in a process of its own."""

from __future__ import annotations

import re

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def right(completion: str, answer: str) -> float:
    """1 where the last number is the answer."""
    numbers = NUMBER.findall(completion)
    return float(bool(numbers) and numbers[-1] == answer)


def form(completion: str) -> float:
    """1 for one equation and nothing else."""
    return float(re.fullmatch(r"\s*\d+ [+-] \d+ = -?\d+\.?\s*", completion) is not None)


def brief(completion: str) -> float:
    """From 1 for nothing said down to 0 at 200 characters."""
    return max(0.0, 1.0 - len(completion) / 200)


def fresh(completion: str) -> float:
    """The share of different words."""
    words = completion.split()
    return len(set(words)) / len(words) if words else 0.0
