"""What every reward source is: it scores completions, and a failure is never a number (design D9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from klimb.config import Settings
from klimb.types import Completion, Prompt, Score


class Scorer(Protocol):
    """An opened reward source.

    It may have a `note` (how it works here), `spent` (further counts), and as a model of preferences a `unit`: what a
    difference of two scores is multiplied by to be the log-odds that the first answer is preferred.
    """

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
        """One score for each pair, in order. Never raises for a bad completion: that is an outcome."""
        ...


class Reward(Settings):
    """A reward source's settings; `open` gives the scorer."""

    name: str = ""
    """The name of this source in metrics and rollouts; by default its type."""
    weight: float = 1.0
    """Its share in the combined reward; 0 = measured and shown, not trained on."""

    def open(self) -> AbstractContextManager[Scorer]:
        """Opens what the source needs (workers, files) and closes it at the end."""
        return _plain(self)

    def score(self, prompt: Prompt, completion: Completion) -> Score:
        """One score, for sources that are plain functions of one completion."""
        raise NotImplementedError


@contextmanager
def _plain(reward: Reward) -> Iterator[Scorer]:
    yield lambda prompts, done: [reward.score(p, c) for p, c in zip(prompts, done, strict=True)]
