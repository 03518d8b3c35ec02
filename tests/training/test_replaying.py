"""Off-policy steps: whose policy is the old one, which passes are made, and that nothing is weighed twice."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from klimb.batch import Batch, Outputs
from klimb.errors import DataError
from klimb.objectives import RPG, TOPR, Objective, Reinforce
from klimb.selection.every import Every
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
