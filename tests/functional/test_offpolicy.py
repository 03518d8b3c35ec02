"""Off-policy evaluation against a policy small enough to sum over: the truth, and what theory says of each estimate."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from klimb import functional as F
from klimb.proving import Enumerable

WORLD = Enumerable()
PI, MU = WORLD.draw(1, 0.6), WORLD.draw(2, 0.6)
RATIO = (WORLD.logp(PI) - WORLD.logp(MU))[0]
CHANCE = WORLD.whole(WORLD.logp(MU))[0].exp().numpy()
WEIGHT = WORLD.whole(WORLD.logp(PI))[0].exp().numpy() / CHANCE
COUNT = len(WORLD.answers)
DRAWS, SIZE = 10_000, 64

MARKS = torch.randn(len(WORLD.row), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
"""A reward for each token of each answer; a token's depends on the words up to it alone, as rewards of tokens do."""
SEEN: dict[tuple[int, ...], float] = {}
for answer, start in zip(WORLD.answers, np.cumsum([0, *map(len, WORLD.answers[:-1])]).tolist(), strict=True):
    for k in range(len(answer)):
        MARKS[start + k] = SEEN.setdefault(answer[: k + 1], float(MARKS[start + k]))
RETURNS = WORLD.whole(MARKS[None])[0].numpy()
TRUTH = float(CHANCE @ (WEIGHT * RETURNS))


def probability(prefix: tuple[int, ...], word: int) -> float:
    return float(PI[0, WORLD.place[prefix]].softmax(-1)[word])


def ahead(prefix: tuple[int, ...]) -> float:
    """The exact value under pi of what comes after some words."""
    if prefix not in WORLD.place:
        return 0.0
    return sum(
        probability(prefix, word) * (SEEN[(*prefix, word)] + ahead((*prefix, word))) for word in range(WORLD.words)
    )


def guesses(scale: float) -> tuple[Tensor, Tensor]:
    """v and q of every token: the truth times `scale`, v the mean of q under pi."""
    before = [ahead(answer[:k]) for answer in WORLD.answers for k in range(len(answer))]
    after = [SEEN[a[: k + 1]] + ahead(a[: k + 1]) for a in WORLD.answers for k in range(len(a))]
    return torch.tensor(before, dtype=torch.float64) * scale, torch.tensor(after, dtype=torch.float64) * scale


def by_hand(scale: float | None) -> np.ndarray:
    """The share of each answer, by the definitions, word by word: per-decision, or doubly robust with guesses."""
    shares, token = np.zeros(COUNT), 0
    for index, answer in enumerate(WORLD.answers):
        weight = 1.0
        for k in range(len(answer)):
            v, q = (0.0, 0.0) if scale is None else (scale * ahead(answer[:k]), 0.0)
            if scale is not None:
                q = scale * (SEEN[answer[: k + 1]] + ahead(answer[: k + 1]))
            shares[index] += weight * v
            weight *= float(RATIO[token].exp())
            shares[index] += weight * (SEEN[answer[: k + 1]] - q)
            token += 1
    return shares


def shares_of(name: str) -> Tensor:
    """What klimb gives each answer."""
    if name == "ordinary":
        return F.offpolicy.ordinary(torch.tensor(WEIGHT).log(), torch.tensor(RETURNS))
    if name == "per_decision":
        return F.offpolicy.per_decision(RATIO, MARKS, WORLD.row, COUNT)
    return F.offpolicy.doubly_robust(RATIO, MARKS, *guesses(float(name)), WORLD.row, COUNT)


EXPECTED = {
    "ordinary": WEIGHT * RETURNS,
    "per_decision": by_hand(None),
    "0.0": by_hand(0.0),
    "0.7": by_hand(0.7),
    "1.0": by_hand(1.0),
}


def drawn(size: int, seed: int = 5) -> np.ndarray:
    """10,000 logs of `size` answers each, drawn by the behaviour policy."""
    return np.random.Generator(np.random.Philox(key=seed)).choice(COUNT, (DRAWS, size), p=CHANCE / CHANCE.sum())


def agrees(estimates: np.ndarray, mean: float, variance: float) -> None:
    """Mean and variance lie within five standard errors of what theory says."""
    spread = estimates.std()
    fourth = ((estimates - estimates.mean()) ** 4).mean()
    assert abs(estimates.mean() - mean) < 5 * spread / DRAWS**0.5 + 1e-12
    assert abs(estimates.var() - variance) < 5 * np.sqrt((fourth - spread**4) / DRAWS) + 1e-12


@pytest.mark.parametrize("name", EXPECTED)
def test_an_unbiased_estimate_has_the_mean_and_variance_of_theory(name: str) -> None:
    shares = shares_of(name).numpy()
    np.testing.assert_allclose(shares, EXPECTED[name], rtol=1e-12)
    variance = float(CHANCE @ (EXPECTED[name] - TRUTH) ** 2) / SIZE
    agrees(shares[drawn(SIZE)].mean(1), TRUTH, variance)


def test_the_weighted_estimate_has_its_exact_mean_and_variance_for_two_and_three_draws() -> None:
    """Its theory for few draws is a sum over every log there can be; the bias is seen, and smaller with more draws."""
    biases = []
    for size in (2, 3):
        logs = np.array(list(product(range(COUNT), repeat=size)))
        chance = CHANCE[logs].prod(1)
        exact = (WEIGHT[logs] * RETURNS[logs]).sum(1) / WEIGHT[logs].sum(1)
        mean = float(chance @ exact)
        found = torch.vmap(F.offpolicy.weighted)(
            torch.tensor(WEIGHT)[torch.tensor(drawn(size))].log(), torch.tensor(RETURNS)[torch.tensor(drawn(size))]
        )
        agrees(found.mean(1).numpy(), mean, float(chance @ (exact - mean) ** 2))
        biases.append(abs(mean - TRUTH))
    assert biases[1] < biases[0]
    assert biases[0] > 0.01


def test_the_weighted_estimate_has_the_spread_of_the_delta_method_for_many_draws() -> None:
    size = 1024
    log = torch.tensor(drawn(size))
    found = torch.vmap(F.offpolicy.weighted)(torch.tensor(WEIGHT)[log].log(), torch.tensor(RETURNS)[log]).mean(1)
    variance = float(CHANCE @ (WEIGHT * (RETURNS - TRUTH)) ** 2) / size
    assert abs(found.mean() - TRUTH) < 0.1 * variance**0.5
    assert abs(found.var() / variance - 1) < 0.08


def test_true_guesses_leave_no_spread_and_wrong_ones_more_than_none() -> None:
    spread = {name: float(CHANCE @ (EXPECTED[name] - TRUTH) ** 2) for name in EXPECTED}
    assert spread["1.0"] < 1e-20
    assert spread["1.0"] < spread["0.7"] < spread["0.0"]
    assert spread["0.0"] == pytest.approx(spread["per_decision"], rel=1e-12)
    assert spread["per_decision"] < spread["ordinary"]


def test_with_a_reward_at_the_end_alone_per_decision_is_ordinary() -> None:
    last = torch.ones(len(WORLD.row), dtype=torch.bool)
    last[:-1] = WORLD.row[1:] != WORLD.row[:-1]
    value = torch.where(last, torch.tensor(RETURNS)[WORLD.row], torch.zeros(()).double())
    found = F.offpolicy.per_decision(RATIO, value, WORLD.row, COUNT)
    torch.testing.assert_close(found, shares_of("ordinary"))


@pytest.mark.parametrize("name", ["ordinary", "per_decision", "0.7", "weighted"])
def test_the_interval_holds_the_truth_about_95_times_in_100(name: str) -> None:
    log = torch.tensor(drawn(512, seed=6)[:2000])
    if name == "weighted":
        shares = torch.vmap(F.offpolicy.weighted)(torch.tensor(WEIGHT)[log].log(), torch.tensor(RETURNS)[log])
    else:
        shares = shares_of(name)[log]
    mean, low, high = torch.vmap(F.offpolicy.interval)(shares)
    torch.testing.assert_close(mean, shares.mean(1))
    inside = float(((low < TRUTH) & (high > TRUTH)).double().mean())
    assert 0.93 < inside < 0.97


def test_one_row_has_no_interval() -> None:
    mean, low, high = F.offpolicy.interval(torch.tensor([2.0]))
    assert (float(mean), float(low), float(high)) == (2.0, -torch.inf, torch.inf)


def test_the_effective_size_counts_rows_of_equal_weight() -> None:
    assert float(F.offpolicy.effective_size(torch.zeros(7))) == pytest.approx(7)
    assert float(F.offpolicy.effective_size(torch.tensor([0.0, -20.0, -20.0]))) == pytest.approx(1)
    assert float(F.offpolicy.effective_size(torch.tensor([1.0, 2.0]).log())) == pytest.approx(9 / 5)
    assert float(F.offpolicy.effective_size(torch.zeros(0))) == 0


def test_the_effective_share_tends_to_the_inverse_of_the_second_moment_of_the_weights() -> None:
    log = torch.tensor(drawn(512)[:1000])
    found = torch.vmap(F.offpolicy.effective_size)(torch.tensor(WEIGHT)[log].log()) / 512
    assert float(found.mean()) == pytest.approx(1 / float(CHANCE @ WEIGHT**2), rel=0.02)


def test_a_running_sum_starts_anew_in_each_row_and_has_the_right_gradient() -> None:
    row = torch.tensor([0, 0, 2, 2, 2])
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64, requires_grad=True)
    found = F.segments.running_sum(values, row, 3)
    assert found.tolist() == [1.0, 3.0, 3.0, 7.0, 12.0]
    found[3].backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 0.0, 1.0, 1.0, 0.0]


def test_a_running_sum_is_exact_at_the_end_of_a_long_batch() -> None:
    values = torch.full((200_000,), -1.1)
    row = torch.arange(200_000) // 100
    found = F.segments.running_sum(values, row, 2000)
    torch.testing.assert_close(found[-100:], found[:100], rtol=1e-6, atol=0)


def test_a_row_that_is_there_eight_times_tells_no_more_than_once_where_rows_are_clustered() -> None:
    shares = torch.randn(50, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    alone = torch.stack(F.offpolicy.interval(shares))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(torch.stack(F.offpolicy.clustered(shares, order + 7)), alone)
    again = torch.stack(F.offpolicy.clustered(shares.repeat(8), order.repeat(8)))
    torch.testing.assert_close(again, alone)
    whole = torch.stack(F.offpolicy.interval(shares.repeat(8)))
    assert (whole[2] - whole[1]) < 0.4 * (again[2] - again[1])
    assert F.offpolicy.clustered(shares, torch.zeros(50, dtype=torch.int64))[2] == torch.inf
