"""Refusing what is to be refused, and answering everything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

from klimb.errors import RewardError
from klimb.rewards.base import Reward, Scorer
from klimb.rewards.words import WordModel, load
from klimb.types import Completion, Outcome, Prompt, Score


class Refusal(Reward):
    """The probability that a prompt to be refused is refused, or that another one is answered.

    Both sides count: without the second, refusing everything would be best. The probability is that of a word model
    fitted to labelled answers (`klimb rewards fit`, true = a refusal).
    """

    type: Literal["refusal"] = "refusal"
    path: Path
    """The file of the word model, from the working directory."""
    column: str = "label"
    """The column of the data that says which prompts are to be refused."""
    refuse: str = "unsafe"
    """The value of that column for prompts that are to be refused."""

    def open(self) -> AbstractContextManager[Scorer]:
        return _opened(self)


@contextmanager
def _opened(reward: Refusal) -> Iterator[Scorer]:
    model = load(reward.path.expanduser())
    if model.kind != "labels":
        raise RewardError(
            f"a classifier of refusals in {reward.path}", "a model of pairs", "fit it to labelled answers"
        )

    def scorer(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
        return [_score(reward, model, p, c) for p, c in zip(prompts, completions, strict=True)]

    yield scorer


def _score(reward: Refusal, model: WordModel, prompt: Prompt, completion: Completion) -> Score:
    if reward.column not in prompt.metadata:
        return Score(Outcome.UNSCORABLE, reason=f"the prompt has no column {reward.column!r}")
    refused = model.probability(completion.text)
    return Score.of(refused if prompt.metadata[reward.column] == reward.refuse else 1 - refused)
