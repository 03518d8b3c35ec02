"""The table of proofs: what every objective states holds, and a false statement does not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import klimb.proving as package
from klimb.errors import KlimbError
from klimb.objectives import (
    GRPO,
    PPO,
    RLOO,
    AnyObjective,
    Custom,
    Objective,
    Reinforce,
)
from klimb.proving import Enumerable, Target, exact_gradient, prove, prove_all, table, world
from klimb.proving.catalog import EVERY, NEAR, changed, worlds
from klimb.proving.claims import BIASES
from klimb.proving.expected import exactly
from klimb.proving.makeup import MAKEUPS, Makeup, Pull, makeup
from klimb.proving.predicted import predicted
from klimb.proving.table import places
from tests.objectives.kit import QUICK, named


def quick(objective: Objective) -> bool:
    return objective in QUICK


@pytest.mark.parametrize(
    "objective", [pytest.param(o, id=named(o), marks=() if quick(o) else pytest.mark.slow) for o in EVERY]
)
def test_what_every_objective_states_of_its_gradient_holds_on_and_off_policy(objective: Objective) -> None:
    rows = list(prove_all([objective]))
    assert {row.policy for row in rows} >= {"on", "far"}
    assert [row for row in rows if not row.holds] == []
    assert all(row.bias <= 1e-9 for row in rows if row.stated == "unbiased")
    assert all(row.bias > 1e-7 for row in rows if row.stated != "unbiased")


def test_every_objective_there_is_has_a_statement_and_is_in_the_catalog() -> None:
    members = set(get_args(get_args(AnyObjective)[0])) - {Custom}
    assert set(MAKEUPS) == members == {type(objective) for objective in EVERY}
    with pytest.raises(KlimbError, match="no makeup"):
        makeup(Objective())


def test_the_page_says_how_many_rows_there_are(root: Path) -> None:
    count = sum(len(places(makeup(objective), moved)) for objective in EVERY for moved in (False, True))
    assert [row.policy for row in prove(RLOO(), True)] == [policy for policy, _ in places(makeup(RLOO()), True)]
    assert f" {count} rows," in (root / "docs/proving.md").read_text("utf-8")


def test_every_quick_case_is_in_the_catalog_and_each_kind_is_among_them() -> None:
    assert all(objective in EVERY for objective in QUICK)
    assert {type(objective) for objective in QUICK} == {type(objective) for objective in EVERY}


@pytest.mark.parametrize(
    ("objective", "on", "far"),
    [
        (Reinforce(level="sequence", baseline="moving"), "unbiased", "unbiased"),
        (RLOO(beta=0.1), "unbiased", "frozen KL"),
        (PPO(whiten=False, lam=1.0), "token mean", "token mean; token ratios; clipped"),
        (PPO(lam=0.5), "whitened; critic: lambda < 1; token mean", None),
        (PPO(whiten=False, lam=1.0, beta=0.1), "token mean", "token mean; token ratios; clipped; frozen KL"),
        (PPO(whiten=False, lam=1.0, gamma=0.5), "discounted; token mean", None),
    ],
    ids=lambda value: named(value) if isinstance(value, Objective) else "",
)
def test_what_is_stated_of_answers_is_what_the_papers_promise(objective: Objective, on: str, far: str | None) -> None:
    for off_policy, stated in ((False, on), (True, far)):
        if stated is not None:
            *_, row = (row for row in prove(objective, off_policy) if row.world == "answers")
            assert (row.stated, row.holds) == (stated, True)


def test_any_critic_leaves_ppo_unbiased_for_answers_of_one_token() -> None:
    for off_policy in (False, True):
        wide = PPO(whiten=False, lam=0.3, gamma=0.5, eps_low=1.0, eps_high=1e9)
        row = next(row for row in prove(wide, off_policy) if row.world == "one token" and row.policy != "near")
        assert (row.target, row.stated, row.holds) == ("reward", "unbiased", True)


def test_rloo_is_unbiased_everywhere_and_grpo_says_what_it_is() -> None:
    assert {row.stated for row in prove(RLOO()) + prove(RLOO(), off_policy=True)} == {"unbiased"}
    on, *_ = prove(GRPO(beta=0.1))
    assert (on.target, on.stated) == ("reward - 0.1 forward KL to ref", "z-score")
    stated = {row.policy: row.stated for row in prove(GRPO(beta=0.1), off_policy=True) if row.world == "one token"}
    assert stated == {"near": "z-score; unweighted k3", "far": "z-score; clipped; unweighted k3"}


@pytest.mark.parametrize(
    "false",
    [
        Makeup("none", "row", "sequence"),
        Makeup("group", "row", "sequence"),
        Makeup("others", "token", "sequence"),
        Makeup("others", "row", "token"),
        Makeup("others", "row", "mean"),
        Makeup("others", 2, "sequence"),
        Makeup("others", "row", "sequence", (0.2, 0.2, math.inf)),
        Makeup("others", "row", "sequence", pull=Pull("k1", 0.1)),
        Makeup("others", "row", "sequence", pull=Pull("urkl", 0.1, place="clip")),
    ],
)
def test_a_false_statement_does_not_hold(false: Makeup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "makeup", lambda _: false)
    rows = prove(RLOO(), off_policy=True)
    unlike = [row for row in rows if not row.holds]
    # Without a baseline RLOO's own expectation is the same: only what is there to be seen can be refuted.
    assert bool(unlike) is (false.baseline != "none")


def test_a_bias_that_is_stated_but_not_there_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    always = replace(BIASES[0], there=lambda *_: True)
    monkeypatch.setattr("klimb.proving.claims.BIASES", (always,))
    monkeypatch.setattr("klimb.proving.claims.SCALES", frozenset())
    assert not any(row.holds for row in prove(RLOO()))


def test_only_scaled_gradients_are_compared_with_the_scaled_target(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(row.holds and row.cosine > 1 - 1e-12 for row in prove(changed(Reinforce(), level="sequence")))
    monkeypatch.setattr("klimb.proving.claims._scaled", lambda target, *_: replace(target, reward=0.5))
    assert not any(row.holds for row in prove(changed(Reinforce(), level="sequence")))


@pytest.mark.parametrize("objective", [GRPO(), GRPO(beta=0.1)], ids=named)
def test_a_clip_is_stated_where_a_ratio_leaves_its_interval_and_not_before(objective: Objective) -> None:
    rows = prove(objective, off_policy=True)
    assert {(row.policy, "clipped" in row.stated) for row in rows} == {("near", False), ("far", True)}
    assert not any(predicted(makeup(objective), here).outside for here in worlds(NEAR))


def test_the_probabilities_of_all_batches_sum_to_one_and_count_each_order_of_a_group() -> None:
    for here in worlds(0.5):
        assert sum(probability for probability, _ in here.outcomes) == pytest.approx(1, abs=1e-12)
    pairs = world("", Enumerable(words=3, length=1), 0.5, group=2)
    likely = pairs.policy.whole(pairs.old_logp).exp()[0].tolist()
    found = {tuple(answer for _, answer in drawn): p for p, drawn in pairs.outcomes}
    assert found[0, 0] == pytest.approx(likely[0] ** 2)
    assert found[0, 2] == pytest.approx(2 * likely[0] * likely[2])
    assert len(found) == 6


def test_the_enumerable_policy_is_a_distribution_over_answers() -> None:
    for policy, count in ((Enumerable(3, 3), 15), (Enumerable(2, 3, ends=False), 8), (Enumerable(4, 1, prompts=2), 4)):
        assert len(policy.answers) == len(set(policy.answers)) == count
        total = policy.whole(policy.logp(policy.draw(0))).exp().sum(-1)
        torch.testing.assert_close(total, torch.ones(policy.prompts, dtype=torch.float64), rtol=0, atol=1e-14)
    assert Enumerable(2, 2, ends=False).answers == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert Enumerable(2, 2).answers == [(0,), (1, 0), (1, 1)]


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("reference", ["old", "ref"])
@pytest.mark.parametrize("side", ["forward", "reverse"])
def test_the_exact_gradient_is_the_difference_quotient_of_the_definition(
    side: Any, reference: Any, per_token: bool
) -> None:
    here = world("", Enumerable(words=2, length=2, prompts=2), 0.5)
    found = exact_gradient(Target(side, reference, 0.3, per_token), here)

    def value(theta: torch.Tensor) -> float:
        total = 0.0
        for prompt in range(2):
            now, old = (table[prompt].softmax(-1).tolist() for table in (theta, here.old))
            ref = (here.old if reference == "old" else here.ref)[prompt].softmax(-1).tolist()
            pi, behind, sampled = ([t[0][0], t[0][1] * t[1][0], t[0][1] * t[1][1]] for t in (now, ref, old))
            total += sum(p * float(r) for p, r in zip(pi, here.reward[prompt], strict=True))
            if per_token:
                for place, visits in ((0, sum(sampled)), (1, sampled[1] + sampled[2])):
                    p, q = (now, ref) if side == "reverse" else (ref, now)
                    total -= 0.3 * visits * sum(a * math.log(a / b) for a, b in zip(p[place], q[place], strict=True))
            else:
                p, q = (pi, behind) if side == "reverse" else (behind, pi)
                total -= 0.3 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        return total / 2

    for place in ((0, 0, 0), (1, 1, 0), (1, 0, 1)):
        step = torch.zeros_like(here.theta)
        step[place] = 1e-5
        slope = (value(here.theta + step) - value(here.theta - step)) / 2e-5
        assert float(found[place]) == pytest.approx(slope, abs=1e-9)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (Target(), "reward"),
        (Target(reward=0), "nothing"),
        (Target(reward=2 / 3), "0.6667 reward"),
        (Target("reverse", "ref", 0.0), "reward"),
        (Target("forward", "old", 1.0, reward=0), "-forward KL to old"),
        (Target("reverse", "ref", -0.5, per_token=True), "reward + 0.5 reverse KL to ref per token"),
    ],
)
def test_a_target_is_named_in_words(target: Target, name: str) -> None:
    assert target.name == name


def test_weights_are_taken_as_one_over_a_whole_number_only_where_they_are() -> None:
    third = torch.tensor([1 / 3, 0.0, 0.4], dtype=torch.float32)
    assert exactly(third).tolist() == [1 / 3, 0.0, float(third[2])]


def test_the_public_names_are_there() -> None:
    assert all(package.__getattr__(name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = package.nonsense
