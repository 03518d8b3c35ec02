"""Epsilon-greedy: the best mean so far, but now and then any arm (Sutton and Barto, section 2.4)."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from klimb.bandits.base import Scorer
from klimb.bandits.state import State, Vector


class EpsilonGreedy(Scorer):
    """argmax_k mean_k, with probability epsilon an arm at random."""

    type: Literal["epsilon_greedy"] = "epsilon_greedy"
    epsilon: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    """How often an arm is drawn at random."""

    def scores(self, state: State, context: Vector, rng: np.random.Generator) -> Vector:
        return np.zeros(state.arms) if rng.random() < self.epsilon else state.mean()
