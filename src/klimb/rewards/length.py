"""A price on long completions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from klimb.rewards.base import Reward
from klimb.types import Completion, Prompt, Score


class Length(Reward):
    """DAPO's soft overlong punishment (arXiv 2503.14476, equation 13).

    0 up to `most - slack` tokens, then a straight line down to -1 at `most` tokens, and -1 beyond.
    """

    type: Literal["length"] = "length"
    most: Annotated[int, Field(ge=1)] = 64
    """The length L_max, in tokens, at which the price is whole."""
    slack: Annotated[int, Field(ge=0)] = 16
    """The length L_cache, in tokens, over which the price grows; 0 = nothing up to L_max, then all of it."""

    def score(self, prompt: Prompt, completion: Completion) -> Score:
        over = len(completion.tokens) - (self.most - self.slack)
        if over <= 0:
            return Score.of(0.0)
        return Score.of(-min(1.0, over / self.slack) if self.slack else -1.0)
