"""Off-policy steps: whose policy is the old one, that nothing is weighed twice, and what is told of the estimate."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from klimb.batch import Batch, Outputs
from klimb.errors import DataError
from klimb.objectives import PPO, RPG, TOPR, Objective, Reinforce
from klimb.objectives.penalty import KL
from klimb.selection.every import Every
from klimb.tracking.alerts import Unbelievable
from klimb.training import believing
from klimb.training.base import AdamW, NoCorrection, Training, Truncate
from klimb.training.optimizer import MasterAdamW
from klimb.training.replaying import by_behaviour
from klimb.training.step import Learner, learn
from klimb.training.stopwatch import Stopwatch
from klimb.training.summary import summarise
from klimb.training.tally import Tally
from klimb.training.weighing import Passes
from klimb.types import Group
from tests.training.toy import Bigram, groups

NONE = NoCorrection()


def mixed(ages: tuple[int | None, ...] = (None, 2, 5, None)) -> list[Group]:
    return [replace(one, age=age) for one, age in zip(groups(), ages, strict=True)]


def learner(
    objective: Objective, behaviour: bool = True, correction: NoCorrection | Truncate = NONE, epochs: int = 1
) -> Learner:
    policy = Bigram()
    return Learner(
        policy,
        MasterAdamW(policy.named_parameters(), AdamW(lr=0.01)),
        objective,
        Every(),
        Training(correction=correction, micro_tokens=64),
        passes=Passes(epochs),
        behaviour=behaviour,
    )


def step(made: Learner, drawn: list[Group]) -> tuple[Tally, torch.Tensor]:
    tally = learn(made, Batch.of(drawn), 0.01, 0, Stopwatch())
    assert isinstance(made.policy, Bigram)
    return tally, made.policy.table.detach().clone()


def test_the_old_policy_of_a_replayed_row_is_the_one_that_drew_it_and_of_a_fresh_row_the_trainer() -> None:
    policy, batch = Bigram(), Batch.of(mixed())
    assert batch.age is not None
    now = policy(batch).logp.detach()
    again = (batch.age >= 0)[batch.row]
    for found in (by_behaviour(batch), by_behaviour(batch.replace(old=now))):
        old = found.old_or(now)
        assert torch.equal(old[again], torch.full_like(old[again], -2.0))
        assert torch.equal(old[~again], now[~again])
    part = by_behaviour(batch).take(torch.tensor([1, 9, 30]))
    assert torch.equal(part.old_or(now[: part.row.numel()])[part.row == 1], torch.full((int(part.lengths[1]),), -2.0))
    logp = now.clone().requires_grad_()
    assert not by_behaviour(batch).old_or(logp).requires_grad
    assert by_behaviour(batch.replace(old=now + 1)).unmoved is None, "what was measured before the first pass stays"
    fresh = Batch.of(groups())
    assert by_behaviour(fresh) is fresh
    with pytest.raises(DataError, match="without the log-probs"):
        by_behaviour(batch.replace(sampler=None))


@pytest.mark.parametrize(
    ("epochs", "ages", "passes"),
    [(1, (None, 2, 5, None), 1), (1, (1, 1, 2, 2), 1), (2, (None, 2, 5, None), 3), (2, (1, 1, 2, 2), 2)],
)
def test_a_step_measures_old_log_probs_only_where_it_needs_them(
    epochs: int, ages: tuple[int | None, ...], passes: int
) -> None:
    asked: list[int] = []

    class Counted(Bigram):
        def forward(self, batch: Batch) -> Outputs:
            asked.append(batch.rows)
            return super().forward(batch)

    policy = Counted()
    made = replace(learner(Reinforce(baseline="none", beta=0.0), epochs=epochs), policy=policy)
    made = replace(made, optimizer=MasterAdamW(policy.named_parameters(), AdamW(lr=0.01)), settings=Training())
    batch = Batch.of(mixed(ages))
    batch = batch.replace(reward=torch.ones_like(batch.reward))
    assert learn(made, batch, 0.01, 0, Stopwatch()).steps == epochs
    assert asked == [batch.rows] * passes


def test_a_batch_of_fresh_and_replayed_answers_learns_as_if_old_log_probs_were_measured() -> None:
    objective = RPG(clip="none", beta=0.1)
    made = learner(objective)
    table = step(made, mixed())[1]
    batch = by_behaviour(Batch.of(mixed()).replace(old=Bigram()(Batch.of(mixed())).logp.detach()))
    other = learner(objective, behaviour=False)
    learn(replace(other, passes=Passes()), batch, 0.01, 0, Stopwatch())
    assert isinstance(other.policy, Bigram)
    torch.testing.assert_close(table, other.policy.table.detach())


def test_a_correction_is_not_counted_twice_beside_a_ratio_to_whoever_drew() -> None:
    objective = Reinforce(baseline="batch")
    plain = step(learner(objective), mixed((1, 1, 2, 2)))[1]
    corrected = step(learner(objective, correction=Truncate(cap=1e6)), mixed((1, 1, 2, 2)))[1]
    assert torch.equal(plain, corrected)


def test_one_factor_and_two_factors_are_the_same_weight_before_the_policy_moves() -> None:
    objective = Reinforce(baseline="batch")
    one = step(learner(objective), mixed((1, 1, 2, 2)))[1]
    two = step(learner(objective, behaviour=False, correction=Truncate(cap=1e6)), mixed((1, 1, 2, 2)))[1]
    none = step(learner(objective, behaviour=False), mixed((1, 1, 2, 2)))[1]
    torch.testing.assert_close(one, two)
    assert not torch.allclose(one, none, atol=1e-4)


@pytest.mark.parametrize("objective", [RPG(), RPG(level="sequence", clip="none"), TOPR(), Reinforce()], ids=repr)
def test_parts_of_a_mixed_batch_add_up(objective: Objective) -> None:
    made = learner(objective)
    whole = step(replace(made, settings=Training(micro_tokens=4096)), mixed())[1]
    torch.testing.assert_close(step(learner(objective), mixed())[1], whole)


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


def test_fresh_and_replayed_answers_are_never_in_one_mean() -> None:
    def rewarded(one: Group, reward: float) -> Group:
        return replace(one, rollouts=tuple(replace(row, reward=reward) for row in one.rollouts))

    drawn = [rewarded(one, 0.0 if one.age is None else 1.0) for one in mixed()]
    found = summarise(drawn)
    assert found["reward/mean"] == 0.0 and found["replay/reward"] == 1.0
    assert found["replay/groups"] == 2.0 and found["replay/degenerate"] == 1.0
    fresh = sum(len(row.completion.tokens) for one in drawn if one.age is None for row in one.rollouts)
    assert found["tokens/sampled"] == fresh
    alone = summarise([one for one in drawn if one.age is not None])
    assert "reward/mean" not in alone and alone["tokens/sampled"] == 0.0


def test_an_estimate_that_rests_on_a_few_answers_is_not_believed() -> None:
    rule = Unbelievable(steps=2)
    poor, good = {"replay/effective": 0.02, "policy/effective": 0.9}, {"replay/effective": 0.5}
    assert rule.trips([poor]) == ""
    assert "whole answers count as 2.0% of their number (replay/effective), for 2 steps" in rule.trips([poor, poor])
    assert rule.trips([poor, good]) == ""
    assert "(policy/effective)" in rule.trips([{"policy/effective": 0.01}] * 2)
    assert rule.trips([]) == rule.trips([{}] * 3) == ""
    assert "the clip takes the gradient of 80% of the tokens" in rule.trips([{**good, "policy/clip_share": 0.8}] * 2)


def test_a_batch_learns_at_the_temperature_of_the_policy_and_not_at_that_of_the_log() -> None:
    hot = [replace(one, transform=replace(one.transform, temperature=0.5)) for one in mixed((1, 1, 1, 1))]
    seen: list[float] = []

    class Spy(Bigram):
        def forward(self, batch: Batch) -> Outputs:
            seen.append(batch.temperature)
            return super().forward(batch)

    policy = Spy()
    made = replace(learner(Reinforce(baseline="batch")), policy=policy, temperature=1.0)
    learn(made, Batch.of(hot), 0.01, 0, Stopwatch())
    assert seen and set(seen) == {1.0}
    assert math.isfinite(float(policy.table.detach().sum()))
