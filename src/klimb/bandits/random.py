"""An arm at random: what a bandit that has learned must beat."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from klimb.bandits.base import Bandit
from klimb.bandits.state import State, Vector
from klimb.errors import KlimbError


class Random(Bandit):
    """Draws an arm by fixed shares. With the shares that a bandit ended up with, it tells whether *when* mattered."""

    type: Literal["random"] = "random"
    shares: tuple[Annotated[float, Field(ge=0.0, le=1e6)], ...] = ()
    """How often each arm is drawn, in any unit; none given = all alike."""

    def faults(self) -> list[KlimbError]:
        """Some arm must have a share."""
        if not self.shares or sum(self.shares) > 0:
            return []
        return [KlimbError("shares that can be drawn from", f"{list(self.shares)}", "a share above zero, or shares=[]")]

    def begin(self, arms: int, dimension: int = 0) -> State:
        for fault in self.faults():
            raise fault
        if self.shares and len(self.shares) != arms:
            raise KlimbError(
                f"a share for each of {arms} arms", f"{len(self.shares)} shares", "one share per arm, or shares=[]"
            )
        return super().begin(arms, dimension)

    def choose(self, state: State, context: Vector, rng: np.random.Generator) -> int:
        shares = np.array(self.shares or [1.0] * state.arms)
        return int(rng.choice(state.arms, p=shares / shares.sum()))
