"""What is told of an off-policy estimate: effective sizes, ratios, gaps, the share of the KL, the alert."""

from __future__ import annotations

import pytest
import torch

from klimb.batch import Batch, Outputs
from klimb.objectives import PPO, RPG, Reinforce
from klimb.objectives.penalty import KL
from klimb.tracking.alerts import Unbelievable
from klimb.training import believing
from klimb.training.base import Truncate
from klimb.training.step import Learner
from klimb.training.tally import Tally
from klimb.types import Group
from tests.training.test_replaying import learner, mixed, step
from tests.training.toy import Bigram, groups


def told(made: Learner, drawn: list[Group]) -> dict[str, float]:
    return believing.metrics(step(made, drawn)[0])


def test_the_effective_size_the_quantiles_and_the_staleness_are_those_of_their_definitions() -> None:
    policy, drawn = Bigram(), mixed()
    batch = Batch.of(drawn)
    assert batch.sampler is not None and batch.age is not None
    gap = (policy(batch).logp.detach() - batch.sampler).double()
    whole = torch.stack([gap[batch.row == row].sum() for row in range(batch.rows)]).exp()
    found = told(learner(Reinforce(baseline="none")), drawn)
    live = batch.reward != 0
    again = live & (batch.age >= 0)
    for name, rows in (("policy", live), ("replay", again)):
        size = float(whole[rows].sum() ** 2 / whole[rows].square().sum() / rows.sum())
        assert found[f"{name}/effective"] == pytest.approx(size, rel=1e-5)
    ratios = gap[again[batch.row]].exp()
    assert found["replay/ratio_p50"] == pytest.approx(float(ratios.quantile(0.5)), rel=1e-5)
    assert found["replay/ratio_p05"] == pytest.approx(float(ratios.quantile(0.05)), rel=1e-5)
    assert found["replay/ratio_max"] == pytest.approx(float(ratios.max()), rel=1e-5)
    assert found["replay/age"] == pytest.approx(float(batch.age[again].double().mean()))
    assert found["replay/age_max"] == 5.0
    assert found["replay/gap"] == 0.0


def test_the_gap_of_replayed_answers_to_the_trainer_is_told_apart_from_that_of_the_sampler() -> None:
    drawn = mixed()
    made = learner(Reinforce(baseline="batch"), behaviour=False, correction=Truncate())
    batch = Batch.of(drawn)
    assert batch.sampler is not None and batch.age is not None
    gap = (Bigram()(batch).logp.detach() - batch.sampler).abs()
    again = (batch.age >= 0)[batch.row]
    tally, _ = step(made, drawn)
    assert believing.metrics(tally)["replay/gap"] == pytest.approx(float(gap[again].mean()), rel=1e-4)
    assert tally.metrics()["policy/gap"] == pytest.approx(float(gap[~again].mean()), rel=1e-4)


def test_nothing_is_told_of_what_is_not_there() -> None:
    found = told(learner(Reinforce(baseline="batch")), groups())
    assert set(found) == {"policy/effective"}
    assert believing.metrics(Tally()) == {}


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_the_kls_share_of_the_gradient_grows_with_its_weight_from_nothing_to_all(where: str) -> None:
    def share(beta: float) -> float:
        made = RPG.model_validate({"beta": beta, "clip": "rpg", "kl": where, "eps_high": 1e6, "c": 1e6, "eps_low": 1.0})
        return told(learner(made), mixed((1, 1, 1, 1))).get("objective/kl_share", 0.0)

    assert share(0.0) == 0.0
    small, middle, large = share(1e-6), share(0.1), share(1e6)
    assert small < 1e-3 < middle < 0.999 < large <= 1.0


def test_the_share_is_that_of_the_two_norms() -> None:
    objective = Reinforce(baseline="batch", beta=0.5, kl=KL(estimator="k2"))
    policy, batch = Bigram(), Batch.of(groups())
    now = policy(batch)
    ready = objective.advantage(batch.replace(ref=torch.full_like(now.logp.detach(), -2.0)))
    ready = ready.replace(weight=objective.weighting(ready), carried={"kl_coefficient": 0.25})
    tally = Tally()
    believing.pull(tally, objective, now, ready)
    assert ready.weight is not None and ready.advantage is not None
    kl = (0.25 * ready.weight * (now.logp.detach() + 2.0)).norm()
    rest = (ready.weight * ready.advantage).norm()
    assert believing.metrics(tally)["objective/kl_share"] == pytest.approx(float(kl / (kl + rest)), rel=1e-5)
    rewarded = Tally()
    believing.pull(rewarded, Reinforce(beta=0.5), now, ready)
    believing.pull(rewarded, PPO(), now, ready)
    assert rewarded.counts == {}, "in the reward a KL is one with the advantage"


def test_where_a_clip_cuts_is_told_by_side_and_sign() -> None:
    logp = torch.tensor([2.0, 2.0, 0.5, 0.5, 1.0], dtype=torch.float64).log()
    objective = PPO(value_weight=1e-9)
    batch = Batch(
        tokens=torch.zeros(5, dtype=torch.int64), row=torch.arange(5), group=torch.zeros(5, dtype=torch.int64),
        prompts=(torch.zeros(1, dtype=torch.int64),), learn=torch.ones(5, dtype=torch.bool), reward=torch.zeros(5),
        scored=torch.ones(5, dtype=torch.bool), truncated=torch.zeros(5, dtype=torch.bool),
        advantage=torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0], dtype=torch.float64), old=torch.zeros_like(logp),
        weight=torch.tensor([0.1, 0.2, 0.3, 0.3, 0.1], dtype=torch.float64),
        value=torch.zeros_like(logp), returns=torch.zeros_like(logp),
    )  # fmt: skip
    found = objective.loss(Outputs(logp, logp, torch.zeros_like(logp)), batch).metrics
    sides = {name.removeprefix("policy/clip_"): float(value) for name, value in found.items() if "policy/clip_" in name}
    assert sides == pytest.approx(
        {"share": 0.4, "above_good": 0.1, "above_bad": 0.0, "below_good": 0.0, "below_bad": 0.3}
    )


def test_an_estimate_that_rests_on_a_few_answers_is_not_believed() -> None:
    rule = Unbelievable(steps=2)
    poor, good = {"replay/effective": 0.02, "policy/effective": 0.9}, {"replay/effective": 0.5}
    assert rule.trips([poor]) == ""
    assert "whole answers count as 2.0% of their number (replay/effective), for 2 steps" in rule.trips([poor, poor])
    assert rule.trips([poor, good]) == ""
    assert "(policy/effective)" in rule.trips([{"policy/effective": 0.01}] * 2)
    assert rule.trips([]) == rule.trips([{}] * 3) == ""
    assert "the clip takes the gradient of 80% of the tokens" in rule.trips([{**good, "policy/clip_share": 0.8}] * 2)
