"""Linear Thompson sampling with a model for each arm (Agrawal and Goyal, 1209.3352)."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from klimb.bandits.linear import Linear, guess, width
from klimb.bandits.state import State, Vector


class Thompson(Linear):
    """argmax_k of c' theta~_k with theta~_k ~ N(theta_k, alpha^2 A_k^-1).

    Arms are independent and a choice sees one context, so c' theta~_k ~ N(c' theta_k, alpha^2 c' A_k^-1 c) is drawn
    itself: one normal an arm in place of d, and no Cholesky factor.
    """

    type: Literal["thompson"] = "thompson"
    alpha: Annotated[float, Field(ge=0.0)] = 0.25
    """The paper's v: the standard deviation of a gain about its mean, as the bandit believes it."""

    def scores(self, state: State, context: Vector, rng: np.random.Generator) -> Vector:
        draws = rng.standard_normal(state.arms)
        return guess(state, context) + self.alpha * width(state, context) * draws
