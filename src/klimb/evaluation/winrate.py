"""Win rate: how often an answer to a held-out prompt is better than the one that the initial policy gave to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from klimb import rollouts
from klimb.evaluation.answers import noted
from klimb.evaluation.intervals import wilson
from klimb.rewards.base import Scorer
from klimb.rewards.judging import nothing_in
from klimb.types import Completion, Group, Outcome, Prompt, Score

Ask = Callable[[int], tuple[dict[str, float], Sequence[Group]]]
Facing = Sequence[tuple[Prompt, Completion, Completion]]
"""A prompt, its answer, and the initial policy's answer to it, which is another text."""

PASSING = (Outcome.TIMED_OUT, Outcome.INFRA_FAILED)
"""What may go better the next time: such an answer is asked again."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """Sets the held-out answers that `ask` draws against those in the file `start`, by the scorer `judge`.

    `pairwise`: the judge is a language model that is shown both, in both orders, the initial answer as the prompt's
    own; else each is scored alone and the higher score wins. Equal texts are a tie, unasked; a tie is a half.
    Where either could not be judged, the prompt is left out and counted; so is one that was asked in other tokens.
    """

    ask: Ask
    judge: Scorer
    pairwise: bool
    start: Path
    _known: dict[str, Score] = field(default_factory=dict)

    def __call__(self, step: int) -> tuple[dict[str, float], Sequence[Group]]:
        """What `ask` tells after `step` and, after step 0, `eval/win`; each answer notes its own. Raises DataError."""
        told, groups = self.ask(step)
        if not step or not self.start.is_file():
            return told, groups
        won, failed = self.against(rollouts.read(self.start), groups)
        return {**told, **win_rate(won, failed)}, noted(groups, "eval/win", won)

    def against(self, before: Sequence[Group], after: Sequence[Group]) -> tuple[dict[str, float], int]:
        """1, 0 or between for each prompt (by its id) with an answer in both, and how many could not be judged."""
        there = {group.prompt.id: group for group in before}
        found = [(one, there[one.prompt.id]) for one in after if one.prompt.id in there]
        both = [
            (now.prompt, now.rollouts[0].completion, then.rollouts[0].completion)
            for now, then in found
            if now.prompt.tokens == then.prompt.tokens
        ]
        ties = {prompt.id: 0.5 for prompt, now, then in both if now.text == then.text}
        facing = [one for one in both if one[0].id not in ties]
        won = self._shown(facing) if self.pairwise else self._scored(facing)
        return ties | won, len(found) - len(ties) - len(won)

    def _shown(self, facing: Facing) -> dict[str, float]:
        """By a judge; an answer with nothing in it loses unasked, and two of them are a tie."""
        sure = {p.id: 0.5 if nothing_in(now.text) else 1.0 for p, now, then in facing if nothing_in(then.text)}
        asked = [one for one in facing if one[0].id not in sure]
        prompts = [replace(prompt, answer=then.text) for prompt, _, then in asked]
        scores = self.judge(prompts, [now for _, now, _ in asked]) if asked else []
        named = zip(prompts, scores, strict=True)
        return sure | {prompt.id: score.value for prompt, score in named if score.value is not None}

    def _scored(self, facing: Facing) -> dict[str, float]:
        new = [(prompt, then) for prompt, _, then in facing if prompt.id not in self._known]
        asked = [*((prompt, now) for prompt, now, _ in facing), *new]
        scores = self.judge([prompt for prompt, _ in asked], [one for _, one in asked]) if asked else []
        fresh = {prompt.id: s for (prompt, _), s in zip(new, scores[len(facing) :], strict=True)}
        first = self._known | fresh
        self._known.update({name: score for name, score in fresh.items() if score.outcome not in PASSING})
        pairs = [(p.id, s.value, first[p.id].value) for (p, _, _), s in zip(facing, scores, strict=False)]
        return {
            name: 0.5 if now == then else float(now > then)
            for name, now, then in pairs
            if now is not None and then is not None
        }


def win_rate(won: Mapping[str, float], failed: int = 0) -> dict[str, float]:
    """The share of prompts won, with its 95 % interval (Wilson) over prompts; without any, only what failed."""
    told = {"eval/win_failed": float(failed)}
    if not won:
        return told
    low, high = wilson(sum(won.values()), len(won))
    share = sum(won.values()) / len(won)
    return told | {"eval/win": share, "eval/win_low": low, "eval/win_high": high, "eval/win_n": float(len(won))}
