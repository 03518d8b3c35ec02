"""What is carried from step to step: the coefficient, the reference, the moving baseline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from klimb.batch import Batch, Outputs
from klimb.objectives import GRPO, RLOO, Objective, Reinforce
from klimb.objectives.carried import Carried, Control, Refresh
from klimb.objectives.penalty import KL
from klimb.selection.every import Every
from klimb.training.base import AdamW, Mask, NoCorrection, Training, Truncate
from klimb.training.carrying import Carrier, MovingBaseline, open_carriers
from klimb.training.controller import Controller
from klimb.training.optimizer import MasterAdamW
from klimb.training.references import Refreshed
from klimb.training.step import Learner, learn
from klimb.training.stopwatch import Stopwatch
from klimb.training.weighing import corrected
from tests.training.toy import Bigram, groups

BATCH = Batch.of(groups(seed=1))


def learner(objective: Objective) -> tuple[Learner, Bigram, Bigram]:
    """A learner with what its objective wants carried, its policy and its reference."""
    policy, reference = Bigram(), Bigram()
    for weight in reference.parameters():
        weight.requires_grad_(False)
    optimizer = MasterAdamW(policy.named_parameters(), AdamW(lr=0.05, warmup=0))
    carriers = open_carriers(objective.carried, policy.named_parameters, reference.named_parameters)
    settings = Training(micro_tokens=10_000)
    made = Learner(policy, optimizer, objective, Every(), settings, reference=reference, carriers=carriers)
    return made, policy, reference


def steps(made: Learner, count: int) -> Iterator[dict[str, float]]:
    """Metrics of so many steps, each on a batch of its own."""
    for step in range(count):
        yield learn(made, Batch.of(groups(seed=step)), 0.05, step, Stopwatch()).metrics()


def test_nothing_is_carried_where_nothing_is_asked_for() -> None:
    assert open_carriers(Carried(), {}.items, None) == {}  # type: ignore[arg-type]
    assert next(iter(steps(learner(RLOO())[0], 1))).keys() & {"objective/baseline", "objective/kl_coefficient"} == set()


def test_the_controller_moves_its_coefficient_towards_the_target() -> None:
    control = Control(target=0.1, gain=0.5, limit=0.2)
    for kl, factor in ((0.105, 1.025), (5.0, 1.1), (0.0, 0.9), (None, 1.0)):
        one = Controller(control, 0.4)
        assert one.numbers() == {"kl_coefficient": 0.4}
        assert one.observe(BATCH, kl) == {"objective/kl_coefficient": 0.4}
        assert one.coefficient == pytest.approx(0.4 * factor)


def test_a_run_of_steps_uses_the_coefficient_of_the_step_before() -> None:
    made, _, _ = learner(GRPO(beta=0.5, kl=KL(control=Control(target=10.0, gain=0.5, limit=0.2))))
    told = [metrics["objective/kl_coefficient"] for metrics in steps(made, 3)]
    assert told == pytest.approx([0.5, 0.45, 0.405]), "far below its target, it falls by a tenth"


def test_the_moving_baseline_is_of_earlier_steps_alone() -> None:
    made, _, _ = learner(Reinforce(baseline="moving", decay=0.5))
    told = [metrics["objective/baseline"] for metrics in steps(made, 3)]
    means = [float(Batch.of(groups(seed=step)).reward.double().mean()) for step in range(3)]
    assert told == pytest.approx([0.0, means[0], (means[0] + 2 * means[1]) / 3])


def test_a_step_without_a_score_leaves_the_baseline() -> None:
    one = MovingBaseline(0.9, total=0.3, count=2)
    one.observe(BATCH.replace(scored=torch.zeros_like(BATCH.scored)), None)
    assert (one.total, one.count) == (0.3, 2)


def test_the_reference_becomes_the_policy_every_k_steps() -> None:
    made, policy, reference = learner(GRPO(beta=0.1, kl=KL(refresh=Refresh(every=2))))
    start = reference.table.clone()
    seen = []
    for metrics in steps(made, 4):
        seen.append((metrics["policy/reference_age"], torch.equal(reference.table, policy.table)))
        if len(seen) == 1:
            assert torch.equal(reference.table, start)
    assert seen == [(1.0, False), (2.0, True), (1.0, False), (2.0, True)]


def test_the_reference_becomes_the_policy_once_the_moving_average_passes_kappa() -> None:
    policy, reference = Bigram(), Bigram()
    with torch.no_grad():
        policy.table += 1
    one = Refreshed(Refresh(kappa=0.1, decay=0.5), policy.named_parameters, reference.named_parameters)
    assert one.observe(BATCH, 0.19)["policy/kl_moving"] == pytest.approx(0.095)
    assert not torch.equal(policy.table, reference.table)
    assert one.observe(BATCH, None)["policy/reference_age"] == 2.0
    assert one.observe(BATCH, 0.12)["policy/kl_moving"] == pytest.approx(0.1075)
    assert torch.equal(policy.table, reference.table)
    assert (one.age, one.moving, one.initial) == (0, 0.0, False)


STEERED = KL(where="reward", estimator="k1", control=Control(target=0.01), refresh=Refresh(every=2))


def test_everything_carried_goes_on_to_the_same_bits_from_its_saved_state() -> None:
    objective = Reinforce(baseline="moving", beta=0.1, kl=STEERED)
    made, policy, reference = learner(objective)
    list(steps(made, 3))
    other, _, copy = learner(objective)
    for name, carrier in made.carriers.items():
        other.carriers[name].restore(carrier.state())
    assert set(made.carriers) == {"baseline", "controller", "reference"}
    assert torch.equal(copy.table, reference.table) and not torch.equal(copy.table, policy.table)
    for name, carrier in made.carriers.items():
        assert carrier.numbers() == other.carriers[name].numbers()
        left, right = carrier.observe(BATCH, 0.02), other.carriers[name].observe(BATCH, 0.02)
        assert left == right


def test_a_reference_that_is_still_the_initial_one_is_not_saved() -> None:
    made, _, reference = learner(GRPO(beta=0.1, kl=KL(refresh=Refresh(every=9))))
    list(steps(made, 1))
    held = made.carriers["reference"].state()
    assert set(held) == {"age", "moving"}
    before = reference.table.clone()
    made.carriers["reference"].restore(held)
    assert torch.equal(reference.table, before)


@pytest.mark.parametrize(
    "carrier", [MovingBaseline(0.9), Controller(Control(target=1.0), 0.1)], ids=["baseline", "controller"]
)
def test_the_state_of_something_else_is_refused(carrier: Carrier) -> None:
    with pytest.raises(KeyError):
        carrier.restore({"age": torch.tensor(1)})


def test_the_old_policy_is_measured_where_the_reward_needs_it() -> None:
    calls: list[bool] = []
    made, policy, _ = learner(RLOO(beta=0.1))

    class Counting(Bigram):
        def forward(self, batch: Batch) -> Any:
            calls.append(torch.is_grad_enabled())
            return policy(batch)

    counted = Learner(
        Counting(), made.optimizer, made.objective, made.selector, made.settings, reference=made.reference
    )
    tally = learn(counted, BATCH, 0.05, 0, Stopwatch())
    assert calls == [False, True]
    assert tally.mean("policy/kl_ref") == pytest.approx(0.0, abs=1e-6)
    assert tally.mean("policy/nothing") is None


@pytest.mark.parametrize("level", ["token", "sequence", "geometric"])
def test_the_samplers_weights_may_be_of_tokens_or_of_whole_answers(level: str) -> None:
    count = len(BATCH.row)
    gap = torch.linspace(-0.5, 0.9, count)
    sampler = torch.full((count,), -2.0)
    batch = BATCH.replace(weight=torch.ones(count), sampler=sampler, old=sampler + gap)
    whole = torch.stack([gap[BATCH.row == row].sum() for row in BATCH.row.tolist()])
    of = {"token": gap, "sequence": whole, "geometric": whole / BATCH.lengths[BATCH.row]}[level].exp()
    now = Outputs(sampler, sampler)
    cut = corrected(batch, now, Truncate(cap=1.5, level=level), True)  # type: ignore[arg-type]
    kept = corrected(batch, now, Mask(low=0.5, high=2.0, level=level), True)  # type: ignore[arg-type]
    assert cut.weight is not None and kept.weight is not None
    torch.testing.assert_close(cut.weight, of.clamp(max=1.5))
    torch.testing.assert_close(kept.weight, torch.where((of >= 0.5) & (of <= 2.0), of, 0.0))
    assert corrected(batch, now, NoCorrection(), True) is batch


def test_a_steered_coefficient_neither_dies_nor_runs_away() -> None:
    one = Controller(Control(target=0.1, gain=1.0, limit=0.9, span=50.0), 0.4)
    for kl, end in ((0.0, 0.4 / 50), (1e9, 0.4 * 50)):
        for _ in range(200):
            one.observe(BATCH, kl)
        assert one.coefficient == pytest.approx(end)
