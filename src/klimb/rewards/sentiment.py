"""How friendly a text sounds, by VADER's lexicon."""

from __future__ import annotations

from typing import ClassVar, Literal

from klimb.rewards.packaged import Packaged


class Sentiment(Packaged):
    """VADER's compound score of the completion, from -1 (hostile) to 1 (friendly); English."""

    package: ClassVar[str] = "vaderSentiment"
    extra: ClassVar[str] = "sentiment"
    program: ClassVar[str] = "sentiment_program"
    type: Literal["sentiment"] = "sentiment"
