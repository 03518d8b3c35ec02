"""What reward sources say of preference pairs: every source scores both answers of every pair."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from klimb.errors import RewardError
from klimb.rewards.base import Reward
from klimb.rewards.scoring import name_of
from klimb.types import Completion, Finish, Prompt, Score

BATCH = 64
"""How many answers a source is given at once."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt, of which people (or a judge) preferred the first."""

    prompt: Prompt
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Opinion:
    """One source's scores of both answers of each pair, and the seconds that they took.

    `unit` times a difference of scores is the log-odds of a preference that the source states; None = it states none.
    """

    name: str
    chosen: tuple[Score, ...]
    rejected: tuple[Score, ...]
    seconds: float
    unit: float | None = None

    @property
    def gaps(self) -> NDArray[np.float64]:
        """(n,) score of the chosen answer minus that of the other; NaN where either was not scored."""
        return _values(self.chosen) - _values(self.rejected)

    @property
    def failures(self) -> Counter[str]:
        """The answers that were not scored, by how that ended and why."""
        failed = (score for score in chain(self.chosen, self.rejected) if not score.counts)
        return Counter(f"{score.outcome}: {score.reason}"[:200] for score in failed)


def opinions(
    pairs: Sequence[Pair], rewards: Sequence[Reward], tokens: Callable[[str], tuple[int, ...]] | None = None
) -> Iterator[Opinion]:
    """Each source's opinion of all pairs; sources are opened one after the other, and no number of failures ends it.

    `tokens` gives an answer's token ids; without it a token is a word. Raises RewardError where a source cannot be
    opened, or two have one name.
    """
    names = [name_of(reward) for reward in rewards]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RewardError("one name for each reward", f"twice: {', '.join(twice)}", "set `name` on one of them")
    texts = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
    done = [_completion(text, tokens or _words) for text in texts]
    asked = [pair.prompt for pair in pairs for _ in range(2)]
    for name, reward in zip(names, rewards, strict=True):
        scores: list[Score] = []
        with reward.open() as scorer:
            start = time.perf_counter()
            for first in range(0, len(done), BATCH):
                scores += scorer(asked[first : first + BATCH], done[first : first + BATCH])
            seconds = time.perf_counter() - start
            unit = getattr(scorer, "unit", None)
        if len(scores) != len(done):
            raise RewardError(f"{len(done)} scores of reward {name!r}", f"{len(scores)}", "mend the source")
        yield Opinion(name, tuple(scores[::2]), tuple(scores[1::2]), seconds, unit)


def _completion(text: str, tokens: Callable[[str], tuple[int, ...]]) -> Completion:
    ids = tokens(text)
    return Completion(ids, (0.0,) * len(ids), text, Finish.EOS)


def _words(text: str) -> tuple[int, ...]:
    """A number for each word, the same for the same word."""
    return tuple(zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in text.split())


def _values(scores: Sequence[Score]) -> NDArray[np.float64]:
    return np.array([np.nan if score.value is None else score.value for score in scores], np.float64)
