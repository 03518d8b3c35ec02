"""The arms in turn."""

from __future__ import annotations

from typing import Literal

import numpy as np

from klimb.bandits.base import Bandit
from klimb.bandits.state import State, Vector


class RoundRobin(Bandit):
    """The arm that was chosen least often, and of those the first: 0, 1, 2, ... and again."""

    type: Literal["round_robin"] = "round_robin"

    def choose(self, state: State, context: Vector, rng: np.random.Generator) -> int:
        return int(np.argmin(state.count + state.owed))
