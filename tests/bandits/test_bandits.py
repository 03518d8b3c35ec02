"""Each bandit by its formula; warm-up, ties, turns, delays and what is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from klimb.bandits import UCB1, AnyBandit, Bandit, EpsilonGreedy, Exp3, Fixed, LinUCB, Random, RoundRobin, Thompson
from klimb.bandits.base import Scorer, chooser, forgive, owe, repaid
from klimb.bandits.state import State
from klimb.errors import KlimbError

EVERY: list[Bandit] = [
    Fixed(arm=1), Random(), RoundRobin(), LinUCB(), Thompson(), Exp3(), UCB1(), EpsilonGreedy(),
]  # fmt: skip
CONTEXT = np.array([0.6, 0.8])


def fed(bandit: Bandit, gains: list[tuple[int, float]], arms: int = 3) -> State:
    state = bandit.begin(arms, 2)
    for arm, gain in gains:
        state = bandit.update(state, arm, gain, CONTEXT)
    return state


def drawn(bandit: Bandit, state: State, times: int = 600) -> Counter[int]:
    return Counter(bandit.choose(state, CONTEXT, chooser(0, step)) for step in range(times))


@pytest.mark.parametrize("bandit", EVERY, ids=lambda bandit: bandit.type)
def test_settings_of_a_type_make_that_bandit_and_a_choice_is_a_function_of_its_names(bandit: Any) -> None:
    assert TypeAdapter(AnyBandit).validate_python({"type": bandit.type} | bandit.model_dump()) == bandit
    state = fed(bandit, [(0, 0.2), (1, 0.9), (2, 0.4)])
    chosen = [bandit.choose(state, CONTEXT, chooser(7, step)) for step in range(20)]
    assert chosen == [bandit.choose(state, CONTEXT, chooser(7, step)) for step in range(20)]
    assert set(chosen) <= {0, 1, 2}
    np.testing.assert_array_equal(state.count, [1, 1, 1])
    np.testing.assert_allclose(state.mean(), [0.2, 0.9, 0.4])


def test_a_type_that_is_none_and_a_negative_alpha_are_faults() -> None:
    with pytest.raises(ValidationError, match="linucb"):
        TypeAdapter(AnyBandit).validate_python({"type": "lin_ucb"})
    with pytest.raises(ValidationError, match="alpha"):
        LinUCB(alpha=-1.0)


def test_fixed_takes_its_arm_and_must_have_it() -> None:
    assert set(drawn(Fixed(arm=2), Fixed(arm=2).begin(3))) == {2}
    with pytest.raises(KlimbError, match="from 0 to 1"):
        Fixed(arm=2).begin(2)


def test_random_draws_by_its_shares() -> None:
    even, uneven = drawn(Random(), Random().begin(3)), drawn(Random(shares=(3, 1, 0)), Random().begin(3))
    assert all(160 < even[arm] < 240 for arm in range(3))
    assert uneven[2] == 0 and 2.2 < uneven[0] / uneven[1] < 4.0
    with pytest.raises(KlimbError, match="2 shares"):
        Random(shares=(1, 1)).begin(3)
    with pytest.raises(KlimbError, match="above zero"):
        Random(shares=(0, 0, 0)).begin(3)


def test_round_robin_takes_turns_even_while_gains_are_owed() -> None:
    bandit = RoundRobin()
    state, seen = bandit.begin(3), []
    for step in range(9):
        seen.append(bandit.choose(state, CONTEXT, chooser(0, step)))
        state = owe(state, seen[-1]) if step < 4 else bandit.update(state, seen[-1], 0.5, CONTEXT)
    assert seen[:6] == [0, 1, 2, 0, 1, 2]


def test_ucb1_scores_are_the_papers_and_an_untried_arm_comes_first() -> None:
    bandit = UCB1(scale=0.5, warm_up=0)
    state = fed(bandit, [(0, 1.0), (0, 0.5), (1, 0.2)])
    scores = bandit.scores(state, CONTEXT, chooser(0, 0))
    wide = [np.sqrt(2 * np.log(3) / n) for n in (2, 1)]
    np.testing.assert_allclose(scores, [0.75 + 0.5 * wide[0], 0.2 + 0.5 * wide[1], np.inf])
    assert set(drawn(bandit, state, 5)) == {2}
    owing = bandit.scores(owe(state, 2), CONTEXT, chooser(0, 0))
    np.testing.assert_allclose(owing[2], 1.7 / 3 + 0.5 * np.sqrt(2 * np.log(4)))


def test_epsilon_greedy_takes_the_best_mean_but_for_its_share() -> None:
    gains = [(0, 0.1), (1, 0.9), (2, 0.5)]
    assert set(drawn(EpsilonGreedy(epsilon=0), fed(EpsilonGreedy(), gains))) == {1}
    counts = drawn(EpsilonGreedy(epsilon=0.3), fed(EpsilonGreedy(), gains))
    assert 35 < counts[0] < 90 and 35 < counts[2] < 90


def test_exp3_probabilities_and_weights_are_the_papers() -> None:
    bandit = Exp3(gamma=0.3)
    state = fed(bandit, [(1, 0.8)])
    weight = np.array([1.0, np.exp(0.3 * 0.8 / (1 / 3) / 3), 1.0])
    chances = 0.7 * weight / weight.sum() + 0.1
    np.testing.assert_allclose(bandit.chances(state), chances)
    following = bandit.update(state, 0, 0.5, CONTEXT)
    wanted = np.log(weight) + np.array([0.3 * 0.5 / chances[0] / 3, 0, 0])
    np.testing.assert_allclose(following.log_weight, wanted - wanted.max())
    counts = drawn(bandit, following, 2000)
    np.testing.assert_allclose([counts[arm] / 2000 for arm in range(3)], bandit.chances(following), atol=0.04)


def test_exp3_divides_a_late_gain_by_the_chance_its_arm_had_when_it_was_chosen() -> None:
    bandit = Exp3(gamma=0.2)
    start = bandit.begin(2)
    moved = bandit.update(start, 1, 1.0, CONTEXT)
    late = bandit.update(moved, 0, 1.0, CONTEXT, chance=bandit.chance(start, 0))
    gap = moved.log_weight[0] - moved.log_weight[1] + 0.2 * 1.0 / 0.5 / 2
    np.testing.assert_allclose(late.log_weight[0] - late.log_weight[1], gap)
    assert bandit.update(moved, 0, 1.0, CONTEXT).log_weight.tolist() != late.log_weight.tolist()


def test_an_exp3_gain_outside_zero_and_one_counts_as_the_nearest() -> None:
    bandit = Exp3()
    assert fed(bandit, [(0, 5.0)]).log_weight.tolist() == fed(bandit, [(0, 1.0)]).log_weight.tolist()
    assert fed(bandit, [(0, -5.0)]).log_weight.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("bandit", [b for b in EVERY if isinstance(b, Scorer)], ids=lambda bandit: bandit.type)
def test_warm_up_chooses_every_arm_first_in_an_order_that_is_drawn(bandit: Scorer) -> None:
    twice, orders = bandit.model_copy(update={"warm_up": 2}), set()
    for seed in range(20):
        state, order = twice.begin(3, 2), []
        for step in range(6):
            order.append(twice.choose(state, CONTEXT, chooser(seed, step)))
            # arm 2 pays best, and some gains are still owed
            state = owe(state, order[-1]) if step % 2 else twice.update(state, order[-1], order[-1] / 2, CONTEXT)
        assert Counter(order) == {0: 2, 1: 2, 2: 2}
        orders.add(tuple(order))
    assert len(orders) > 5


@pytest.mark.parametrize("bandit", [RoundRobin(), LinUCB(), EpsilonGreedy()], ids=lambda bandit: bandit.type)
def test_an_arm_that_never_brings_a_gain_does_not_hold_up_the_others(bandit: Bandit) -> None:
    state, chosen = bandit.begin(3, 2), []
    for step in range(30):
        chosen.append(bandit.choose(state, CONTEXT, chooser(0, step)))
        dead = chosen[-1] == 0
        state = forgive(state, 0) if dead else bandit.update(state, chosen[-1], 0.5, CONTEXT)
    assert 1 <= chosen.count(0) <= 20 and {1, 2} <= set(chosen)
    assert state.pulls[0] == 0 and state.count.sum() == 30


def test_without_warm_up_equal_scores_are_told_apart_by_chance() -> None:
    bandit = LinUCB(warm_up=0)
    counts = drawn(bandit, bandit.begin(3, 2))
    assert all(150 < counts[arm] < 250 for arm in range(3))


def test_the_discount_fades_counts_and_means_of_every_arm() -> None:
    bandit = EpsilonGreedy(discount=0.5)
    state = fed(bandit, [(0, 1.0), (0, 0.0), (1, 1.0)])
    np.testing.assert_allclose(state.pulls, [0.75, 1.0, 0.0])
    np.testing.assert_allclose(state.mean(), [1 / 3, 1.0, 1.25 / 1.75])
    np.testing.assert_array_equal(state.count, [2, 1, 0])
    many = fed(UCB1(discount=0.5), [(0, 1.0), *[(1, 0.5)] * 60], arms=2)
    assert UCB1(discount=0.5).scores(many, CONTEXT, chooser(0, 0)).tolist()[0] == np.inf


def test_an_owed_choice_stays_owed_until_it_is_forgiven() -> None:
    bandit = UCB1()
    state = owe(owe(bandit.begin(2), 0), 1)
    assert bandit.update(state, 0, 1.0, CONTEXT).owed.tolist() == [1.0, 1.0]
    assert forgive(state, 1).owed.tolist() == repaid(state, 1).owed.tolist() == [1.0, 0.0]
    assert repaid(repaid(state, 1), 1).owed.tolist() == [1.0, 0.0]
    assert state.owed.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("gain", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bandit", EVERY, ids=lambda bandit: bandit.type)
def test_a_gain_that_is_not_finite_is_refused(bandit: Bandit, gain: float) -> None:
    with pytest.raises(KlimbError, match="a finite gain"):
        bandit.update(bandit.begin(3, 2), 0, gain, CONTEXT)


@pytest.mark.parametrize("arm", [-1, 3])
def test_an_arm_that_is_not_there_is_refused(arm: int) -> None:
    state = RoundRobin().begin(3)
    with pytest.raises(KlimbError, match="3 arms"):
        RoundRobin().update(state, arm, 0.5, CONTEXT)
    with pytest.raises(KlimbError, match="3 arms"):
        owe(state, arm)
    with pytest.raises(KlimbError, match="3 arms"):
        forgive(state, arm)


def test_a_bandit_without_arms_is_refused() -> None:
    with pytest.raises(KlimbError, match="at least one"):
        Random().begin(0)


def test_the_mean_is_zero_before_any_gain() -> None:
    state = UCB1().begin(2)
    assert state.mean().tolist() == [0.0, 0.0]
    assert replace(state, pulls=np.array([2.0, 0.0]), total=np.array([1.0, 0.0])).mean().tolist() == [0.5, 0.5]


def test_linear_bandits_alone_read_a_context() -> None:
    every = (LinUCB(), Thompson(), UCB1(), EpsilonGreedy(), Exp3(), Fixed(), Random(), RoundRobin())
    assert [bandit.type for bandit in every if bandit.reads_context] == ["linucb", "thompson"]
