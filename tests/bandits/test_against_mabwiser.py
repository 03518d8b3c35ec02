"""LinUCB and linear Thompson sampling beside mabwiser, which inverts A afresh after every gain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mabwiser.mab import MAB, LearningPolicy

from klimb.bandits import LinUCB, Thompson
from klimb.bandits.linear import theta
from klimb.bandits.state import State


class Seen:
    """mabwiser's draw of a vector of normals z for each arm, seen along a context x: (L'x) z / |L'x|, LL' = A^-1."""

    def __init__(self, seed: int, model: Any, arms: int, context: np.ndarray) -> None:
        self.rng = np.random.default_rng(seed)
        self.models, self.context = [model.arm_to_model[arm] for arm in range(arms)], context

    def standard_normal(self, count: int) -> np.ndarray:
        self.rng.random(1)  # mabwiser draws one number for its epsilon, which is zero here
        draws = self.rng.standard_normal((count, len(self.context)))
        factors = [np.linalg.cholesky(model.A_inv).T @ self.context for model in self.models]
        return np.array([f @ z / np.linalg.norm(f) for f, z in zip(factors, draws, strict=True)])


def their_bandit(kind: str, alpha: float, ridge: float, arms: int, seed: int) -> MAB:
    policy = LearningPolicy.LinUCB if kind == "linucb" else LearningPolicy.LinTS
    return MAB(list(range(arms)), policy(alpha=alpha, l2_lambda=ridge), seed=seed)


def stream(kind: str, seed: int, steps: int = 25) -> None:
    """One random stream: every arm once, then each chooses by itself and both learn. Asserts that they agree."""
    rng = np.random.default_rng([seed, kind == "linucb"])
    arms, dimension = int(rng.integers(2, 6)), int(rng.integers(1, 9))
    alpha, ridge, size = rng.uniform(0.05, 2.0), rng.uniform(0.5, 2.0), 10.0 ** rng.uniform(-1, 1)
    ours = (LinUCB if kind == "linucb" else Thompson)(alpha=alpha, ridge=ridge)
    theirs, state = their_bandit(kind, alpha, ridge, arms, seed), ours.begin(arms, dimension)
    contexts, gains = size * rng.standard_normal((steps, dimension)), rng.standard_normal(steps)
    first = np.arange(arms)
    theirs.fit(first, gains[:arms], contexts[:arms])
    for arm in first:
        state = ours.update(state, int(arm), gains[arm], contexts[arm])
    for step in range(arms, steps):
        inner = theirs._imp
        inner.rng.rng = np.random.default_rng([seed, step])
        for model in inner.arm_to_model.values():
            model.rng = inner.rng  # fitting copies the generator into each arm, which makes their draws the same
        wanted = theirs.predict(contexts[step : step + 1])
        arm = ours.choose(state, contexts[step], Seen([seed, step], inner, arms, contexts[step]))  # type: ignore[arg-type]
        assert arm == wanted, f"{kind}, stream {seed}, step {step}"
        theirs.partial_fit([arm], [gains[step]], contexts[step : step + 1])
        state = ours.update(state, arm, gains[step], contexts[step])
    agree(state, theirs._imp.arm_to_model)


def agree(state: State, models: Any) -> None:
    for arm in range(state.arms):
        np.testing.assert_allclose(theta(state)[arm], models[arm].beta, rtol=0, atol=1e-9)
        np.testing.assert_allclose(state.gram[arm], models[arm].A, rtol=0, atol=1e-9)
        np.testing.assert_allclose(state.moment[arm], models[arm].Xty, rtol=0, atol=1e-9)
        np.testing.assert_allclose(state.inverse[arm], models[arm].A_inv, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["linucb", "thompson"])
def test_fifteen_random_streams_give_mabwisers_arms_and_parameters(kind: str) -> None:
    for seed in range(15):
        stream(kind, seed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["linucb", "thompson"])
def test_a_thousand_random_streams_give_mabwisers_arms_and_parameters(kind: str) -> None:
    for seed in range(1000):
        stream(kind, seed)


def test_the_comparison_notices_another_alpha() -> None:
    ours, theirs = LinUCB(alpha=0.5), their_bandit("linucb", 0.1, 1.0, 3, 0)
    rng = np.random.default_rng(0)
    contexts, gains = rng.standard_normal((200, 4)), rng.standard_normal(200)
    theirs.fit(np.arange(3), gains[:3], contexts[:3])
    state = ours.begin(3, 4)
    for arm in range(3):
        state = ours.update(state, arm, gains[arm], contexts[arm])
    agree(state, theirs._imp.arm_to_model)
    assert [ours.choose(state, context, rng) for context in contexts] != theirs.predict(contexts)
