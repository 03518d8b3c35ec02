"""reasoning-gym's own verifiers, in a process that can be killed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from klimb.data.patterns import DEADLINE, Pattern, last_answer
from klimb.errors import RewardError
from klimb.rewards.base import Reward, Scorer
from klimb.rewards.calling import FunctionScorer
from klimb.rewards.isolate import Worker
from klimb.types import Completion, Outcome, Prompt, Score


class Gym(Reward):
    """1 where the task's verifier gives full marks, else 0. Needs data of type gym.

    The verifiers give part marks for the answer inside a longer text, and some for nothing at all: a policy finds that.
    """

    type: Literal["gym"] = "gym"
    pattern: Pattern | None = None
    """Where the answer stands in the completion: the first group of the last match; none = all of it, spaces aside."""
    partial: bool = False
    """Whether part marks count."""
    deadline: Annotated[float, Field(gt=0.0, le=3600.0)] = 10.0
    """Seconds for one answer."""

    def open(self) -> AbstractContextManager[Scorer]:
        return _opened(self)


class GymScorer:
    """The scorer: cuts the answer out, asks the verifier, and rounds part marks down unless they count."""

    def __init__(self, reward: Gym, verifier: FunctionScorer) -> None:
        self._reward, self._verifier = reward, verifier

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
        """One score for each pair. Raises RewardError for prompts that are not of type gym."""
        for prompt in prompts:
            if "gym" not in prompt.metadata:
                raise RewardError("problems of reasoning-gym for reward gym", f"prompt {prompt.id!r}", "data.type=gym")
        said = [self._said(one.text) for one in completions]
        asked = [prompt for prompt, text in zip(prompts, said, strict=True) if text is not None]
        cut = [replace(one, text=text) for one, text in zip(completions, said, strict=True) if text is not None]
        judged = iter(self._verifier(asked, cut))
        late = Score(Outcome.TIMED_OUT, reason=f"the pattern took more than {DEADLINE:g} s")
        return [late if text is None else self._marks(next(judged)) for text in said]

    def _marks(self, score: Score) -> Score:
        if self._reward.partial or score.value is None:
            return score
        return Score.of(float(score.value >= 1.0 - 1e-9))

    def _said(self, text: str) -> str | None:
        """The answer in a text; None where the pattern took too long to find it."""
        if self._reward.pattern is None:
            return text.strip()
        try:
            return (last_answer(self._reward.pattern, text) or "").strip()
        except TimeoutError:
            return None


@contextmanager
def _opened(reward: Gym) -> Iterator[Scorer]:
    if importlib.util.find_spec("reasoning_gym") is None:
        raise RewardError("reward of type gym", "no `reasoning_gym` package", "pip install 'klimb[gym]'")
    worker = Worker(Path(__file__).with_name("gym_verify.py"), "verify", memory_gb=0, start_s=120)
    try:
        worker.start()
        yield GymScorer(reward, FunctionScorer(worker, reward.deadline))
    finally:
        worker.close()
