"""LinUCB with a model for each arm (Li et al. 2010, 1003.0146, algorithm 1), as LASeR uses it (2410.01735)."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from klimb.bandits.linear import Linear, guess, width
from klimb.bandits.state import State, Vector


class LinUCB(Linear):
    """argmax_k c' theta_k + alpha sqrt(c' A_k^-1 c)."""

    type: Literal["linucb"] = "linucb"
    alpha: Annotated[float, Field(ge=0.0)] = 0.1
    """How much a wide guess counts; 0.1 is LASeR's."""

    def scores(self, state: State, context: Vector, rng: np.random.Generator) -> Vector:
        return guess(state, context) + self.alpha * width(state, context)
