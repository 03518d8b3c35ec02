"""The linear model of the gain that LinUCB and linear Thompson sampling share: one ridge regression an arm."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from klimb.bandits.base import LIMIT, Scorer
from klimb.bandits.state import Matrix, State, Vector, blank
from klimb.errors import KlimbError

FRESH = 256
"""After this many rank-one updates the inverse is solved afresh."""


class Linear(Scorer):
    """E[gain | arm k, context c] = c' theta_k: A_k = ridge I + sum c c', b_k = sum gain c, theta_k = A_k^-1 b_k."""

    ridge: Annotated[float, Field(ge=1e-6)] = 1.0
    """The weight of the prior theta = 0: A begins as this times the identity."""

    @property
    def reads_context(self) -> bool:
        return True

    def begin(self, arms: int, dimension: int = 0) -> State:
        super().begin(arms, dimension)
        if dimension < 1:
            raise KlimbError(
                f"a context for bandit type={getattr(self, 'type', '?')}", f"dimension {dimension}", "type=ucb1"
            )
        return blank(arms, dimension, self.ridge)

    def learn(self, state: State, arm: int, gain: float, context: Vector, chance: float) -> State:
        check_context(state, context)
        fade = self.discount
        return seen(state if fade == 1 else faded(state, fade, self.ridge), arm, gain, context, self.ridge, fade < 1)


def theta(state: State) -> Matrix:
    """The coefficients [K, d] of each arm: A^-1 b."""
    coefficients: Matrix = np.einsum("kij,kj->ki", state.inverse, state.moment)
    return coefficients


def guess(state: State, context: Vector) -> Vector:
    """The expected gain [K] of each arm in this context: c' theta."""
    check_context(state, context)
    expected: Vector = theta(state) @ context
    return expected


def width(state: State, context: Vector) -> Vector:
    """The standard deviation [K] of that guess in units of the noise: sqrt(c' A^-1 c)."""
    check_context(state, context)
    return np.sqrt(np.maximum(state.inverse @ context @ context, 0.0))


def seen(state: State, arm: int, gain: float, context: Vector, ridge: float, afresh: bool) -> State:
    """A_arm += c c' and b_arm += gain c; the inverse by Sherman and Morrison's formula, now and then afresh."""
    gram, moment, inverse, stale = (x.copy() for x in (state.gram, state.moment, state.inverse, state.stale))
    gram[arm] += np.outer(context, context)
    moment[arm] += gain * context
    stale[arm] += 1
    if afresh:
        inverse, stale = solved(gram, ridge), np.zeros_like(stale)
    elif stale[arm] >= FRESH:
        inverse[arm], stale[arm] = solved(gram[arm], ridge), 0.0
    else:
        step = inverse[arm] @ context
        inverse[arm] -= np.outer(step, step) / (1.0 + max(float(context @ step), 0.0))
    return replace(state, gram=gram, moment=moment, inverse=inverse, stale=stale)


def faded(state: State, discount: float, ridge: float) -> State:
    """A <- discount A + (1 - discount) ridge I and b <- discount b, for every arm; the inverse is left as it was.

    The second term keeps A at or above ridge I: the width of an arm not chosen grows to its first value, no more.
    """
    prior = ridge * np.eye(state.gram.shape[-1])
    return replace(state, gram=discount * state.gram + (1 - discount) * prior, moment=discount * state.moment)


def solved(gram: Matrix, ridge: float) -> Matrix:
    """A^-1 from the eigenvalues of A, of which none is below `ridge`: symmetric and positive for any contexts."""
    values, vectors = np.linalg.eigh(gram)
    inverse: Matrix = (vectors / np.maximum(values, ridge)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return (inverse + np.swapaxes(inverse, -1, -2)) / 2


def check_context(state: State, context: Vector) -> None:
    """Raises KlimbError where the context has another dimension, or is not finite, or too long to compute with."""
    dimension = state.moment.shape[1]
    if context.shape != (dimension,):
        raise KlimbError(
            f"a context of {dimension} numbers", f"shape {context.shape}", "the dimension given to begin()"
        )
    largest = float(np.max(np.abs(context)))
    if not largest <= LIMIT:
        raise KlimbError(f"a finite context within {LIMIT:g}", f"a number of size {largest:g}", "normalised(context)")
