"""Contexts from hidden states; choices whose gain comes late."""

from __future__ import annotations

import numpy as np
import pytest

from klimb.bandits import Exp3, LinUCB
from klimb.bandits.base import chooser
from klimb.bandits.contexts import batch_mean, normalised, projected, projection, with_constant
from klimb.bandits.delayed import lend, nothing_owed, settle
from klimb.errors import KlimbError


def test_a_projection_is_a_function_of_its_seed_and_keeps_angles() -> None:
    matrix = projection(3, 576, 64)
    assert matrix.shape == (64, 576) and np.array_equal(matrix, projection(3, 576, 64))
    assert not np.array_equal(matrix, projection(4, 576, 64))
    rng = np.random.default_rng(0)
    states = rng.standard_normal((40, 576))
    states[1::2] = states[::2] + 0.5 * states[1::2]  # each second one is near the first
    found = np.array([projected(state, matrix) for state in states])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0)
    near, far = (found[::2] * found[1::2]).sum(axis=1), (found[::2] * np.roll(found[1::2], 1, axis=0)).sum(axis=1)
    assert near.min() > 0.7 and abs(far).mean() < 0.2


@pytest.mark.parametrize("size", [1e-310, 1e-200, 1.0, 1e200])
def test_a_normalised_vector_has_length_one_at_any_size(size: float) -> None:
    np.testing.assert_allclose(normalised(size * np.array([3.0, 4.0])), [0.6, 0.8], rtol=1e-9)
    assert normalised(np.zeros(2)).tolist() == [0.0, 0.0]


def test_a_constant_is_as_long_as_the_context_and_the_whole_has_length_one() -> None:
    np.testing.assert_allclose(with_constant(np.array([30.0, 40.0])), np.array([0.6, 0.8, 1.0]) / np.sqrt(2))
    assert with_constant(np.zeros(2)).tolist() == [0.0, 0.0, 1.0]


def test_the_context_of_a_batch_is_the_mean_and_needs_a_prompt() -> None:
    assert batch_mean(np.array([[1.0, 2.0], [3.0, 6.0]], np.float32)).tolist() == [2.0, 4.0]
    with pytest.raises(KlimbError, match="no prompts"):
        batch_mean(np.zeros((0, 2)))
    with pytest.raises(KlimbError, match="finite"):
        batch_mean(np.array([[1.0, np.nan]]))


def test_late_gains_in_any_order_teach_a_linear_bandit_what_prompt_ones_do() -> None:
    bandit, rng = LinUCB(), np.random.default_rng(0)
    contexts, arms, gains = rng.standard_normal((6, 3)), [0, 1, 0, 1, 1, 0], rng.random(6)
    prompt, late, owed = bandit.begin(2, 3), bandit.begin(2, 3), nothing_owed(3)
    for ticket in range(6):
        prompt = bandit.update(prompt, arms[ticket], gains[ticket], contexts[ticket])
        late, owed = lend(bandit, late, owed, ticket, arms[ticket], contexts[ticket])
    assert late.owed.tolist() == [3.0, 3.0] and late.count.sum() == 0
    for ticket in (4, 0, 5, 2, 1, 3):
        late, owed = settle(bandit, late, owed, ticket, float(gains[ticket]))
    assert late.owed.sum() == 0 and len(owed.ticket) == 0 and owed.context.shape == (0, 3)
    np.testing.assert_allclose(late.gram, prompt.gram, atol=1e-12)
    np.testing.assert_allclose(late.moment, prompt.moment, atol=1e-12)
    np.testing.assert_allclose(late.inverse, prompt.inverse, atol=1e-12)


def test_exp3_is_told_the_chance_of_the_time_of_the_choice() -> None:
    bandit, nothing = Exp3(), np.zeros(0)
    state, owed = lend(bandit, bandit.begin(2), nothing_owed(0), 5, 0, nothing)
    state = bandit.update(state, 1, 1.0, nothing)
    settled, _ = settle(bandit, state, owed, 5, 1.0)
    wanted = bandit.update(state, 0, 1.0, nothing, chance=0.5)
    assert settled.log_weight.tolist() == wanted.log_weight.tolist()
    assert settled.log_weight.tolist() != bandit.update(state, 0, 1.0, nothing).log_weight.tolist()


def test_a_choice_that_brings_no_gain_is_struck_out_and_teaches_nothing() -> None:
    bandit = LinUCB()
    state, owed = lend(bandit, bandit.begin(2, 1), nothing_owed(1), 0, 1, np.ones(1))
    state, owed = settle(bandit, state, owed, 0, None)
    assert state.owed.sum() == 0 and state.count.tolist() == [0.0, 1.0] and state.pulls.sum() == state.moment.sum() == 0
    assert {bandit.choose(state, np.ones(1), chooser(0, step)) for step in range(5)} == {0}


def test_a_ticket_is_open_once_and_settled_once() -> None:
    bandit = LinUCB()
    state, owed = lend(bandit, bandit.begin(2, 1), nothing_owed(1), 3, 1, np.ones(1))
    with pytest.raises(KlimbError, match="ticket 3"):
        lend(bandit, state, owed, 3, 0, np.ones(1))
    state, owed = settle(bandit, state, owed, 3, 0.5)
    with pytest.raises(KlimbError, match="ticket 3"):
        settle(bandit, state, owed, 3, 0.5)
