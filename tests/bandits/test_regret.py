"""Laws of regret in simulated worlds. Seeds are fixed; each threshold stands well clear of what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from klimb.bandits import UCB1, Bandit, EpsilonGreedy, Exp3, LinUCB, Random, RoundRobin, Thompson
from klimb.rewards.combining.selected import Selected
from tests.bandits.worlds import AWAY, Played, World, contextual, foreseeing, played, switching

STEPS, QUARTER = 800, 200
MIXED: list[Bandit] = [LinUCB(), UCB1(), EpsilonGreedy(), Random(), RoundRobin()]


def quarters(run: Played) -> tuple[float, float]:
    """The regret of the first and of the last quarter."""
    return float(run.regret[:QUARTER].sum()), float(run.regret[-QUARTER:].sum())


@pytest.mark.parametrize("bandit", [Selected().bandit, Thompson()], ids=["that of a recipe", "thompson"])
@pytest.mark.parametrize("seed", [0, 1])
def test_where_the_context_decides_regret_is_sublinear_and_far_below_exp3_and_random(bandit: Bandit, seed: int) -> None:
    world = contextual(seed, STEPS)
    run, others = played(bandit, world, STEPS, seed), [played(b, world, STEPS, seed) for b in (Exp3(), Random())]
    first, last = quarters(run)
    assert last < 0.4 * first
    assert all(run.regret.sum() < 0.4 * other.regret.sum() for other in others)
    assert all(quarters(other)[1] > 0.7 * quarters(other)[0] for other in others), "theirs is linear"


def test_the_papers_alpha_beats_exp3_and_random_too_though_it_may_settle_too_early() -> None:
    world = contextual(0, STEPS)
    paper, exp3, uniform = (played(bandit, world, STEPS, 0) for bandit in (LinUCB(), Exp3(), Random()))
    assert paper.regret.sum() < 0.75 * min(exp3.regret.sum(), uniform.regret.sum())
    first, last = quarters(paper)
    assert last > 0.7 * first, "linear: it keeps a wrong arm"
    bolder = played(LinUCB(alpha=1.0), world, STEPS, 0)
    assert bolder.regret.sum() < 0.5 * paper.regret.sum()


@pytest.mark.parametrize("bandit", [UCB1(scale=0.3), Thompson()], ids=["ucb1", "thompson"])
def test_where_one_arm_is_best_regret_is_sublinear(bandit: Bandit) -> None:
    means = np.array([0.3, 0.5, 0.7, 0.4])
    run = played(bandit, lambda *_: (AWAY, means), STEPS, 0)
    first, last = quarters(run)
    assert first > last and last / QUARTER < 0.01, "a step of a bandit that draws at random costs 0.225"
    assert np.mean(run.arms[-QUARTER:] == 2) > 0.9


def worst(bandit: Bandit, seeds: int, steps: int) -> float:
    """What it misses a step, at worst of two adversaries, beside the best single arm; the mean over seeds."""
    missed = []
    for seed in range(seeds):
        worlds: list[tuple[World, int]] = [(switching(steps // 2), 3 * steps // 2), (foreseeing(seed), steps)]
        missed.append(max(played(bandit, world, many, seed, noise=0.0).missed / many for world, many in worlds))
    return float(np.mean(missed))


def test_against_adversaries_that_switch_exp3_misses_least() -> None:
    exp3 = worst(Exp3(), seeds=2, steps=600)
    assert exp3 < 0.27
    for other in MIXED:
        assert exp3 < 0.8 * worst(other, seeds=1, steps=600), other


@pytest.mark.slow
def test_against_adversaries_that_switch_exp3_misses_least_of_all_in_the_mean_of_eight_seeds() -> None:
    exp3 = worst(Exp3(), seeds=8, steps=1200)
    others = {bandit.type: worst(bandit, seeds=8, steps=1200) for bandit in (*MIXED, LinUCB(alpha=1.0), Thompson())}
    assert all(exp3 < 0.8 * missed for missed in others.values()), (exp3, others)


@pytest.mark.parametrize("kind", [LinUCB, UCB1, EpsilonGreedy])
def test_forgetting_finds_the_new_best_arm_where_remembering_does_not(
    kind: type[LinUCB | UCB1 | EpsilonGreedy],
) -> None:
    settings = {"scale": 0.1} if kind is UCB1 else {}
    remembers, forgets = (
        played(kind(discount=discount, **settings), switching(300), 600, 0, noise=0.0) for discount in (1.0, 0.97)
    )
    assert np.mean(remembers.arms[300:] == 1) < 0.5
    assert np.mean(forgets.arms[400:] == 1) > 0.6
