"""What every bandit is: a settings record that chooses an arm and learns from its gain, both without side effects."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from klimb.bandits.state import State, Vector, blank
from klimb.config import Settings
from klimb.errors import KlimbError
from klimb.seeds import seed_of

LIMIT = 1e6
"""A gain beyond this, on either side, counts as this much; a context with a number beyond it is refused."""


class Bandit(Settings):
    """Chooses one of K arms. `choose` and `update` are pure: the state goes in, an arm or the next state comes out."""

    def begin(self, arms: int, dimension: int = 0) -> State:
        """The state before the first choice among `arms` arms, with contexts of `dimension` numbers."""
        if arms < 1:
            raise KlimbError("a bandit chooses among at least one arm", f"{arms}", "name at least one reward source")
        return blank(arms, 0)

    def choose(self, state: State, context: Vector, rng: np.random.Generator) -> int:
        """An arm for this context."""
        raise NotImplementedError

    def update(self, state: State, arm: int, gain: float, context: Vector, chance: float | None = None) -> State:
        """The state after `arm` has brought `gain` in this context.

        `chance`: for a gain that comes late, what `chance` said when the arm was chosen. A gain that is not finite is
        refused with KlimbError: what has no gain is forgiven, not learned from.
        """
        check_arm(state, arm)
        if not np.isfinite(gain):
            raise KlimbError(
                f"a finite gain for arm {arm}", f"{gain}", "forgive(state, arm) where a choice has no gain"
            )
        gain = float(np.clip(gain, -LIMIT, LIMIT))
        state = self.learn(state, arm, gain, context, self.chance(state, arm) if chance is None else chance)
        one = at(state, arm)
        return replace(
            state,
            count=state.count + one,
            pulls=self.fade * state.pulls + one,
            total=self.fade * state.total + gain * one,
        )

    def learn(self, state: State, arm: int, gain: float, context: Vector, chance: float) -> State:
        """What this method keeps of a gain beside the counts and means, which every bandit has."""
        return state

    def chance(self, state: State, arm: int) -> float:
        """The probability with which `arm` is chosen, where learning needs it; else one."""
        return 1.0

    @property
    def fade(self) -> float:
        """What is left of older gains after each new one."""
        return 1.0

    @property
    def reads_context(self) -> bool:
        """Whether a choice depends on its context."""
        return False


class Learner(Bandit):
    """A bandit whose choice depends on the gains that it has seen."""

    discount: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """What is left of all that was learned, of every arm, after each gain; 1 = nothing is forgotten."""

    @property
    def fade(self) -> float:
        return self.discount


class Scorer(Learner):
    """A learner that takes the arm with the best score."""

    warm_up: Annotated[int, Field(ge=0)] = 1
    """Every arm is chosen this many times before scores decide."""

    def choose(self, state: State, context: Vector, rng: np.random.Generator) -> int:
        tried = state.count + state.owed
        if tried.min() < self.warm_up:
            return best(-tried, rng)
        return best(self.scores(state, context, rng), rng)

    def scores(self, state: State, context: Vector, rng: np.random.Generator) -> Vector:
        """A number for each arm; the greatest is chosen."""
        raise NotImplementedError


def owe(state: State, arm: int) -> State:
    """Notes a choice whose gain comes later, so that warm-up, turns and widths know of it."""
    check_arm(state, arm)
    return replace(state, owed=state.owed + at(state, arm))


def repaid(state: State, arm: int) -> State:
    """Strikes out one owed choice of this arm, if there is one: its gain has come."""
    check_arm(state, arm)
    return replace(state, owed=np.maximum(state.owed - at(state, arm), 0.0))


def forgive(state: State, arm: int) -> State:
    """Ends a choice that will never have a gain: nothing is learned, but warm-up and turns go on to other arms."""
    return replace(repaid(state, arm), count=state.count + at(state, arm))


def best(scores: Vector, rng: np.random.Generator) -> int:
    """The index of the greatest score; among equals, one at random."""
    equals = np.flatnonzero(scores == scores.max())
    return int(equals[0] if len(equals) == 1 else rng.choice(equals))


def at(state: State, arm: int) -> Vector:
    """One at this arm, zero at the others."""
    one = np.zeros(state.arms)
    one[arm] = 1.0
    return one


def check_arm(state: State, arm: int) -> None:
    """Raises KlimbError where there is no such arm."""
    if not 0 <= arm < state.arms:
        raise KlimbError(f"arm {arm}", f"{state.arms} arms", f"an arm from 0 to {state.arms - 1}")


def chooser(seed: int, step: int, choice: int = 0) -> np.random.Generator:
    """The random numbers of one choice: a function of names and numbers, so that no generator needs saving."""
    return np.random.Generator(np.random.Philox(key=seed_of("bandit", seed, step, choice)))
