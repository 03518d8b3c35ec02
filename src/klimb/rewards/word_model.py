"""A score by a linear model of words that was fitted to labelled texts or to preference pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

from klimb.rewards.base import Reward, Scorer
from klimb.rewards.words import WordModel, load
from klimb.types import Completion, Prompt, Score


class WordModelReward(Reward):
    """The score of a word model (`klimb rewards fit`): log-odds of its label, or the reward of a Bradley-Terry model.

    It reads words, not meaning: a policy that is trained on it long enough finds that out. Keep a source beside it that
    is not trained on.
    """

    type: Literal["word_model"] = "word_model"
    path: Path
    """The file of the model, from the working directory."""
    probability: bool = False
    """Give 1 / (1 + exp(-score)), from 0 to 1, in place of the score."""

    def open(self) -> AbstractContextManager[Scorer]:
        return _opened(self)


class WordScorer:
    """The opened model."""

    def __init__(self, model: WordModel, *, probability: bool) -> None:
        self._score = model.probability if probability else model.score
        self.unit = 1.0 if model.kind == "pairs" and not probability else None

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
        return [Score.of(self._score(one.text)) for one in completions]


@contextmanager
def _opened(reward: WordModelReward) -> Iterator[Scorer]:
    yield WordScorer(load(reward.path.expanduser()), probability=reward.probability)
