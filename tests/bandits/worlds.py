"""Simulated worlds for bandits: where contexts decide, where one arm is best, where the best arm changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from klimb.bandits.base import Bandit, chooser
from klimb.bandits.contexts import normalised, with_constant
from klimb.bandits.state import State, Vector

ARMS, DIMENSION = 4, 6
World = Callable[[int, Bandit, State], tuple[Vector, Vector]]
"""Step, and who plays with what state -> the context, and the expected gain of every arm in it."""
AWAY = with_constant(np.zeros(DIMENSION - 1))
"""The context of a world in which contexts say nothing."""


@dataclass(frozen=True)
class Played:
    """What a bandit did at each step.

    `regret`: what its choice fell short of the best arm of that step. `missed`: what the best single arm would have
    brought over all steps beyond what it brought.
    """

    arms: np.ndarray
    regret: np.ndarray
    missed: float
    state: State


def contextual(seed: int, steps: int) -> World:
    """Each arm's expected gain is linear in the context; which arm is best depends on it."""
    rng = np.random.default_rng(seed)
    slopes = rng.standard_normal((ARMS, DIMENSION - 1))
    slopes = 0.4 * slopes / np.linalg.norm(slopes, axis=1, keepdims=True)
    directions = [normalised(direction) for direction in rng.standard_normal((steps, DIMENSION - 1))]
    return lambda step, _, __: (with_constant(directions[step]), 0.5 + slopes @ directions[step])


def switching(first: int) -> World:
    """Only arm 0 gains for `first` steps, then only arm 1: against whoever has settled."""
    means = np.eye(ARMS)
    return lambda step, _, __: (AWAY, means[0 if step < first else 1])


def foreseeing(seed: int) -> World:
    """Every arm gains but the one that the adversary, who knows the state and not the draws, expects to be chosen."""

    def at(step: int, bandit: Bandit, state: State) -> tuple[Vector, Vector]:
        gains = np.ones(ARMS)
        gains[bandit.choose(state, AWAY, chooser(seed + 1000, step))] = 0.0
        return AWAY, gains

    return at


def played(bandit: Bandit, world: World, steps: int, seed: int, noise: float = 0.1) -> Played:
    """The bandit in that world, with gains that are noisy and within [0, 1]."""
    state = bandit.begin(ARMS, DIMENSION)
    arms, means = np.zeros(steps, int), np.zeros((steps, ARMS))
    noises = noise * np.random.default_rng([seed, 1]).standard_normal(steps)
    for step in range(steps):
        context, means[step] = world(step, bandit, state)
        arms[step] = arm = bandit.choose(state, context, chooser(seed, step))
        state = bandit.update(state, arm, float(np.clip(means[step, arm] + noises[step], 0.0, 1.0)), context)
    brought = means[np.arange(steps), arms]
    return Played(arms, means.max(axis=1) - brought, float(means.sum(axis=0).max() - brought.sum()), state)
