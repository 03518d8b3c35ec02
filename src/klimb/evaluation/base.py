"""The settings of held-out evaluation, and what one evaluation found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from klimb.config import Settings
from klimb.errors import KlimbError
from klimb.generation.base import Sampling
from klimb.rewards import AnyReward
from klimb.rewards.base import Scorer
from klimb.rewards.judge import Judge

UNREAD = ("name", "weight")
"""Settings of a source that say nothing where it says who wins: it is in no reward."""
GRADES = ("against", "best")
"""Those of a judge: it is shown both answers, and grades neither."""


class Evaluate(Settings):
    """Held-out accuracy: the same held-out problems, one completion each, scored by the reward sources."""

    every: Annotated[int, Field(ge=1)] = 20
    """Evaluate after each so many steps."""
    problems: Annotated[int, Field(ge=1)] = 256
    """How many held-out problems are asked: the first ones, always the same."""
    temperature: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    """The sampling temperature; 1 = what the policy itself would say. No top-p, no top-k."""
    greedy: bool = False
    """Take the likeliest token each time instead of sampling."""
    start: bool = True
    """Evaluate before training, too: without it there is no before to compare with."""
    end: bool = True
    """Evaluate after the last step, whatever `every` is."""
    correct: str = ""
    """The name of the source that says what is correct; by default the first of type exact, numeric or gym."""
    threshold: float = 1.0
    """A score of that source of at least this is correct."""

    win: AnyReward | None = None
    """What says which of two answers to a held-out prompt is better, the policy's or that from before training: a
    source that scores each (a reward model, a rule), or a language model (type judge), which is shown both in both
    orders. It scores nothing else, and nothing is trained on it."""
    by: str = ""
    """A column of the data: accuracy is also told for each of its values, so that no side pays for another unseen."""

    @property
    def pairwise(self) -> bool:
        """Whether what says who wins is shown both answers."""
        return isinstance(self.win, Judge)

    def faults(self) -> list[KlimbError]:
        """Without answers from before training there is nothing to win against; what nobody reads of `win`."""
        if self.win is None:
            return []
        asked = f"set held-out answers against those from before training (evaluation.win.type={self.win.type})"
        fields = type(self.win).model_fields
        unread = (*UNREAD, *GRADES) if self.pairwise else UNREAD
        names = [name for name in unread if getattr(self.win, name) != fields[name].default]
        found, none = ", ".join(f"{name}={getattr(self.win, name)}" for name in names), ", ".join(names)
        faults = [KlimbError(asked, f"{found}: who wins is asked without", f"leave {none} out")] if names else []
        if not self.start:
            faults.append(KlimbError(asked, "evaluation.start=false, which draws none", "evaluation.start=true"))
        return faults

    def judge(self) -> AbstractContextManager[Scorer]:
        """What says who wins, opened. Raises RewardError."""
        assert self.win is not None
        both = self.win.model_copy(update={"against": "answer"}) if isinstance(self.win, Judge) else self.win
        return both.open()

    def unread(self, *, scored: bool, sampled: bool) -> Iterator[KlimbError]:
        """The settings that would change nothing, where held-out answers are not scored, or not even drawn."""
        names = [] if scored and sampled else ["correct", "threshold", "by"]
        names += [] if sampled else ["greedy", "temperature", "win"]
        given = [f"evaluation.{name}" for name in names if getattr(self, name) != type(self).model_fields[name].default]
        if given:
            why = "no rewards" if sampled else "a reward model in training, which answers nothing"
            cure = "give rewards (nothing learns from them), or leave" if sampled else "leave"
            yield KlimbError(f"measure held-out answers by {', '.join(given)}", why, f"{cure} {', '.join(given)} out")
        if scored and not sampled:
            yield KlimbError(
                "score held-out answers", "a reward model in training, which answers nothing", "rewards=[]"
            )

    def due(self, step: int, last: int) -> bool:
        """Whether to evaluate after `step` of `last` (0 = before training)."""
        if step == 0:
            return self.start
        return (self.end and step == last) or step % self.every == 0

    def sampling(self, training: Sampling) -> Sampling:
        """How held-out completions are drawn: at this temperature, with the length and stops of training."""
        temperature = 0.0 if self.greedy else self.temperature
        return Sampling(temperature=temperature, max_tokens=training.max_tokens, stop=training.stop)


@dataclass(frozen=True, slots=True)
class Share:
    """A share, or a mean, of `n` with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation. A completion that could not be scored is in `failed`, and neither right nor wrong.

    `accuracy` is None where nothing could be scored; `format` is None where no source of type format is there.
    `sides` is the accuracy for each value of a column of the data. `score` is the mean score where what says what is
    correct is no verifier, as a reward model.
    """

    step: int
    accuracy: Share | None
    format: Share | None
    length: float
    truncated: float
    failed: int
    sides: Mapping[str, Share] = field(default_factory=dict)
    score: Share | None = None
    won: Mapping[str, float] = field(default_factory=dict)
    """The metrics of the win rate, where it was asked for."""

    def metrics(self) -> dict[str, float]:
        """The `eval/...` metrics; what is not known is left out."""
        found = {"eval/length": self.length, "eval/truncated": self.truncated, "eval/failed": float(self.failed)}
        if (a := self.accuracy) is not None:
            found |= {"eval/accuracy": a.value, "eval/low": a.low, "eval/high": a.high, "eval/n": float(a.n)}
        if (f := self.format) is not None:
            found |= {"eval/format": f.value, "eval/format_low": f.low, "eval/format_high": f.high}
        if (s := self.score) is not None:
            found |= {"eval/score": s.value, "eval/score_low": s.low, "eval/score_high": s.high}
        for side, share in self.sides.items():
            name = f"eval/accuracy_{side}"
            found |= {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}
        return found | dict(self.won)
