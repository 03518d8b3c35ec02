"""Scores by a function in a worker process; what fails is named, and takes no other sample with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from klimb.rewards.isolate import Worker, WorkerDied, WorkerTimedOut
from klimb.seeds import seed_of
from klimb.types import Completion, Outcome, Prompt, Score

PATIENCE = 8
"""What `patience` is where a source has no setting of that name."""


class FunctionScorer:
    """The scorer of one function: `f(prompt, completion, answer, ...)` or TRL's `f(prompts, completions, ...)`.

    After `patience` failures in a row with a timeout among them, as many are passed over before the next one is tried;
    0 = none ever is.
    """

    def __init__(self, worker: Worker, deadline: float, patience: int = PATIENCE) -> None:
        self._worker, self._deadline, self._patience = worker, deadline, patience

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
        """One score for each pair.

        A batch function gets all at once; if it raises, dies, or does not answer, each completion is tried alone, so
        that only those fail that must.
        """
        if self._worker.shape == "batch" and len(completions) > 1:
            whole = self._ask(prompts, completions)
            if not all(score.reason and not score.counts for score in whole):
                return whole
        scores: list[Score] = []
        for prompt, completion in zip(prompts, completions, strict=True):
            if self._gives_up(scores):
                scores.append(Score(Outcome.INFRA_FAILED, reason=f"not tried: {self._patience} before it failed"))
            else:
                scores += self._ask([prompt], [completion])
        return scores

    def _gives_up(self, scores: Sequence[Score]) -> bool:
        """Whether the next one is passed over."""
        if not self._patience or len(scores) < self._patience:
            return False
        last = {score.outcome for score in scores[-self._patience :]}
        return last <= {Outcome.TIMED_OUT, Outcome.INFRA_FAILED} and Outcome.TIMED_OUT in last

    def _ask(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
        count = len(completions)
        seed = seed_of(*(part for p, c in zip(prompts, completions, strict=True) for part in (p.id, c.text)))
        single = self._worker.shape == "single"
        arguments = _single(prompts[0], completions[0]) if single else _batch(prompts, completions)
        try:
            answer = self._worker.call(arguments, count, seed, self._deadline)
        except WorkerTimedOut:
            return [Score(Outcome.TIMED_OUT, reason=f"no answer in {self._deadline:g} s")] * count
        except WorkerDied as error:
            return [Score(Outcome.INFRA_FAILED, reason=str(error))] * count
        if "error" in answer:
            return [Score(Outcome.INFRA_FAILED, reason=f"it raised {answer['error']}")] * count
        return [_score(kind, value) for kind, value in answer["values"]]


def _score(kind: str, value: Any) -> Score:
    return Score.of(value) if kind == "number" else Score(Outcome.UNSCORABLE, reason=str(value))


def _single(prompt: Prompt, completion: Completion) -> dict[str, Any]:
    asked = prompt.messages[-1].content if prompt.messages else prompt.text
    return {
        **prompt.metadata,
        "prompt": asked,
        "completion": completion.text,
        "answer": prompt.answer,
        "completion_ids": completion.tokens,
        "finish": completion.finish,
    }


def _batch(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> dict[str, Any]:
    """What TRL gives: texts for text prompts, lists of messages for chats, and a list for every column of the data."""
    names = sorted({name for prompt in prompts for name in prompt.metadata})
    return {
        **{name: [prompt.metadata.get(name) for prompt in prompts] for name in names},
        "prompts": [_turns(prompt) if prompt.messages else prompt.text for prompt in prompts],
        "completions": [
            [{"role": "assistant", "content": done.text}] if prompt.messages else done.text
            for prompt, done in zip(prompts, completions, strict=True)
        ],
        "answer": [prompt.answer for prompt in prompts],
        "completion_ids": [done.tokens for done in completions],
    }


def _turns(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in prompt.messages]
