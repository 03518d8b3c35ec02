"""One arm, always: the best single source, or any other."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from klimb.bandits.base import Bandit, check_arm
from klimb.bandits.state import State, Vector


class Fixed(Bandit):
    """The same arm every time; what other arms would have brought is never seen."""

    type: Literal["fixed"] = "fixed"
    arm: Annotated[int, Field(ge=0)] = 0
    """Which arm, counted from zero."""

    def begin(self, arms: int, dimension: int = 0) -> State:
        state = super().begin(arms, dimension)
        check_arm(state, self.arm)
        return state

    def choose(self, state: State, context: Vector, rng: np.random.Generator) -> int:
        return self.arm
