"""Exp3: a bandit that needs no assumption about the gains (Auer, Cesa-Bianchi, Freund and Schapire 2002, figure 1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from klimb.bandits.base import Learner, at
from klimb.bandits.state import State, Vector


class Exp3(Learner):
    """p_k = (1 - gamma) w_k / sum w + gamma / K, an arm drawn from p, then log w_arm += gamma (gain / p_arm) / K.

    Gains count within [0, 1]. Weights are kept as logarithms, the greatest being zero. It explores by itself, so it has
    no warm-up. A gain that comes late is divided by the probability that its arm had when it was chosen.
    """

    type: Literal["exp3"] = "exp3"
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """The share of choices that are made at random, and the learning rate."""

    def choose(self, state: State, context: Vector, rng: np.random.Generator) -> int:
        return int(rng.choice(state.arms, p=self.chances(state)))

    def chances(self, state: State) -> Vector:
        """The probability of each arm."""
        weight = np.exp(state.log_weight - state.log_weight.max())
        chances: Vector = (1 - self.gamma) * weight / weight.sum() + self.gamma / state.arms
        return chances

    def chance(self, state: State, arm: int) -> float:
        return float(self.chances(state)[arm])

    def learn(self, state: State, arm: int, gain: float, context: Vector, chance: float) -> State:
        rise = self.gamma * min(max(gain, 0.0), 1.0) / max(chance, self.gamma / state.arms) / state.arms
        log_weight = self.discount * state.log_weight + rise * at(state, arm)
        return replace(state, log_weight=log_weight - log_weight.max())
