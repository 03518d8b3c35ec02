"""The program of the source `profanity`. Loaded by its path; imports nothing of klimb."""

from __future__ import annotations

from profanity_check import predict_prob


def score(completion: str) -> float:
    """Minus the probability that the text is offensive."""
    return -float(predict_prob([completion])[0])
