"""A price on answers that have no end."""

from __future__ import annotations

from typing import Literal

from klimb.rewards.base import Reward
from klimb.types import Completion, Finish, Prompt, Score


class Ended(Reward):
    """0 where the answer ended by itself, by EOS or a stop string; -1 where the length limit cut it off.

    `weight` is the no-EOS penalty of RLHF trainers, in units of the combined reward (TRL's missing_eos_penalty).
    """

    type: Literal["ended"] = "ended"

    def score(self, prompt: Prompt, completion: Completion) -> Score:
        return Score.of(-1.0 if completion.finish is Finish.LENGTH else 0.0)
