"""The linear model: the inverse stays the inverse, forgetting has a floor, hostile contexts leave it positive."""

from __future__ import annotations

import numpy as np
import pytest

from klimb.bandits import LinUCB, Thompson
from klimb.bandits.linear import FRESH, guess, solved, theta, width
from klimb.bandits.state import State
from klimb.errors import KlimbError


def after(steps: int, bandit: LinUCB, arms: int = 2, dimension: int = 8) -> State:
    """The state after a stream of contexts of very different sizes."""
    rng = np.random.default_rng(3)
    state = bandit.begin(arms, dimension)
    for first in range(0, steps, 1000):
        contexts = rng.standard_normal((1000, dimension)) * 10.0 ** rng.uniform(-3, 1, (1000, 1))
        for context in contexts[: steps - first]:
            state = bandit.update(state, int(rng.integers(arms)), rng.random(), context)
    return state


def drift(state: State) -> float:
    """How far the kept inverse is from a fresh one."""
    return float(np.abs(state.inverse - np.linalg.inv(state.gram)).max())


def test_after_twelve_hundred_updates_the_inverse_is_that_of_a_fresh_solve() -> None:
    state = after(1200, LinUCB())
    assert 0 < state.stale.max() < FRESH and state.count.sum() == 1200
    assert drift(state) < 1e-9


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_after_a_million_updates_the_inverse_is_within_a_millionth_of_a_fresh_solve() -> None:
    state = after(1_000_000, LinUCB())
    assert state.count.sum() == 1_000_000
    assert drift(state) < 1e-6
    assert np.abs(state.inverse @ state.gram - np.eye(8)).max() < 1e-6


def test_the_check_of_the_inverse_sees_an_update_that_was_left_out() -> None:
    state = after(300, LinUCB())
    state.gram[0] += np.eye(8)
    assert drift(state) > 1e-5


def test_an_update_leaves_the_state_before_it_as_it_was() -> None:
    bandit = LinUCB()
    before = bandit.begin(2, 3)
    following = bandit.update(before, 1, 1.0, np.array([1.0, 2.0, 3.0]))
    assert before.gram.tolist() == bandit.begin(2, 3).gram.tolist() and before.moment.sum() == 0
    assert following.moment[1].tolist() == [1.0, 2.0, 3.0] and following.moment[0].tolist() == [0.0, 0.0, 0.0]


def test_scores_are_the_papers() -> None:
    bandit = LinUCB(alpha=0.5, ridge=2.0)
    contexts, gains = np.array([[1.0, 0.0], [1.0, 1.0]]), [1.0, 3.0]
    state = bandit.begin(1, 2)
    for context, gain in zip(contexts, gains, strict=True):
        state = bandit.update(state, 0, gain, context)
    gram = 2 * np.eye(2) + contexts.T @ contexts
    coefficients, asked = np.linalg.solve(gram, contexts.T @ gains), np.array([0.3, -0.7])
    np.testing.assert_allclose(theta(state)[0], coefficients, atol=1e-14)
    wide = np.sqrt(asked @ np.linalg.solve(gram, asked))
    wanted = asked @ coefficients + 0.5 * wide
    np.testing.assert_allclose(bandit.scores(state, asked, np.random.default_rng(0)), [wanted], atol=1e-14)


def test_thompson_draws_from_the_posterior_of_the_score() -> None:
    bandit, context = Thompson(alpha=0.5), np.array([0.6, 0.8])
    state = bandit.update(bandit.begin(2, 2), 0, 1.0, context)
    rng = np.random.default_rng(0)
    scores = np.array([bandit.scores(state, context, rng) for _ in range(4000)])
    np.testing.assert_allclose(scores.mean(axis=0), [0.5, 0.0], atol=0.03)
    np.testing.assert_allclose(scores.std(axis=0), [0.5 * np.sqrt(0.5), 0.5], rtol=0.05)


def test_forgetting_is_the_stated_equation_and_the_width_returns_to_its_first_value() -> None:
    bandit, context = LinUCB(discount=0.9, ridge=1.5), np.array([0.6, 0.8])
    state = bandit.begin(2, 2)
    first = width(state, context)[1]
    state = bandit.update(state, 1, 1.0, context)
    np.testing.assert_allclose(state.gram[1], 1.5 * np.eye(2) + np.outer(context, context))
    assert width(state, context)[1] < 0.8 * first
    state = bandit.update(state, 0, 0.5, context)
    np.testing.assert_allclose(state.gram[1], 1.5 * np.eye(2) + 0.9 * np.outer(context, context))
    np.testing.assert_allclose(state.moment[1], 0.9 * context)
    for _ in range(300):
        state = bandit.update(state, 0, 0.5, context)
    np.testing.assert_allclose(width(state, context)[1], first, rtol=1e-9)
    assert abs(guess(state, context)[1]) < 1e-9
    assert drift(state) < 1e-12


def test_contexts_at_the_limit_leave_the_inverse_positive_where_a_plain_solve_would_not() -> None:
    gram = 1e-6 * np.eye(2) + 1e12 * np.ones((2, 2))
    inverse = solved(gram, 1e-6)
    assert np.linalg.eigvalsh(inverse).min() > -1e-9
    assert np.abs(inverse - inverse.T).max() == 0 and inverse.max() <= 1.0000001e6


@pytest.mark.parametrize(
    ("context", "said"),
    [
        (np.zeros(2), "a context of 3 numbers"),
        (np.zeros((1, 3)), "a context of 3 numbers"),
        (np.array([0.0, np.nan, 0.0]), "finite"),
        (np.array([0.0, 2e6, 0.0]), "normalised"),
    ],
)
def test_a_context_of_the_wrong_kind_is_refused_when_choosing_and_when_learning(context: np.ndarray, said: str) -> None:
    bandit = LinUCB(warm_up=0)
    state = bandit.begin(2, 3)
    with pytest.raises(KlimbError, match=said):
        bandit.choose(state, context, np.random.default_rng(0))
    with pytest.raises(KlimbError, match=said):
        bandit.update(state, 0, 1.0, context)


def test_a_linear_bandit_needs_a_context() -> None:
    with pytest.raises(KlimbError, match="type=linucb"):
        LinUCB().begin(2, 0)
