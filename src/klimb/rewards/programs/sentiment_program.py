"""The program of the source `sentiment`. Loaded by its path; imports nothing of klimb."""

from __future__ import annotations

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

ANALYZER = SentimentIntensityAnalyzer()


def score(completion: str) -> float:
    """VADER's compound score, from -1 to 1."""
    return float(ANALYZER.polarity_scores(completion)["compound"])
