"""One batch, one update: whatever the parts; and nothing that is not finite reaches the optimizer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from klimb import functional as F
from klimb.batch import Batch, Outputs, Terms
from klimb.objectives.base import Objective
from klimb.objectives.grpo import GRPO
from klimb.objectives.reinforce import Reinforce
from klimb.objectives.rpg import RPG
from klimb.selection.every import Every
from klimb.training.base import AdamW, Mask, Training, Truncate
from klimb.training.optimizer import MasterAdamW
from klimb.training.step import Learner, learn
from klimb.training.stopwatch import Stopwatch
from klimb.training.tally import Tally
from klimb.training.weighing import Passes
from tests.training.ranks import OBJECTIVES as EACH_KIND
from tests.training.toy import Bigram, groups

OBJECTIVES: list[Objective] = [
    Reinforce(),
    GRPO(beta=0.1),
    RPG(divergence="urkl", form="reinforce", reference="initial"),
    RPG(divergence="ufkl", form="differentiable"),
]


def learner(objective: Objective, **changes: Any) -> Learner:
    policy = Bigram()
    optimizer = MasterAdamW(policy.named_parameters(), AdamW(lr=0.05))
    made = Learner(policy, optimizer, objective, Every(), Training(micro_tokens=10_000), reference=Bigram())
    return replace(made, **changes)


def run(made: Learner, batch: Batch, lr: float = 0.05) -> Tally:
    return learn(made, batch, lr, 0, Stopwatch())


@pytest.mark.parametrize("objective", [*OBJECTIVES, *(o for o in EACH_KIND if not o.critic)], ids=lambda o: o.type)
def test_one_batch_of_64_and_eight_parts_give_the_same_update(objective: Objective) -> None:
    batch = Batch.of(groups(8, 8))
    whole = learner(objective)
    parts = learner(objective, settings=Training(micro_tokens=30))
    assert len(list(batch.split(30))) >= 8
    first, second = run(whole, batch).metrics(), run(parts, batch).metrics()
    torch.testing.assert_close(whole.policy.table, parts.policy.table, rtol=1e-6, atol=1e-7)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert math.isclose(value, second[name], rel_tol=1e-5, abs_tol=1e-6), name
    assert not torch.equal(whole.policy.table, Bigram().table)


def state(made: Learner) -> list[torch.Tensor]:
    optimizer = made.optimizer
    kept = [*optimizer.master.values(), *optimizer.first.values(), *optimizer.second.values()]
    return [tensor.clone() for tensor in kept] + [torch.tensor(optimizer.count)]


BAD = (math.nan, math.inf, -math.inf)
POINTS = ("reward", "sampler", "advantage", "logp", "loss", "gradient", "ref", "old")
REFERRING = [(point, o) for point in POINTS for o in OBJECTIVES if o.refers or point != "ref"]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize(("where", "objective"), REFERRING, ids=lambda x: x if isinstance(x, str) else x.type)
def test_what_is_not_finite_never_reaches_the_optimizer_and_is_named(
    where: str, objective: Objective, value: float
) -> None:
    batch = Batch.of(groups())
    made = poison(learner(objective), where, value)
    if where in ("reward", "sampler"):
        spoiled = getattr(batch, where).clone()
        spoiled[1] = value
        batch = batch.replace(**{where: spoiled})
    before = state(made)
    tally = run(made, batch)
    assert all(torch.equal(a, b) for a, b in zip(before, state(made), strict=True))
    assert len(tally.skipped) == 1 and where in tally.skipped[0]
    assert tally.metrics()["optim/skipped"] == 1.0
    assert all(math.isfinite(number) for number in tally.metrics().values())
    assert not made.optimizer.gradients(), "no gradient is left behind"


def poison(made: Learner, where: str, value: float) -> Learner:
    """This learner with one number spoiled at a stage of the step."""
    real = made.policy

    def spoiled(batch: Batch) -> Outputs:
        out = real(batch)
        spoil = torch.zeros_like(out.logp)
        spoil[0] = value
        return Outputs(out.logp + spoil, out.entropy)

    if where == "logp":
        return replace(made, policy=spoiled)
    if where == "ref":
        return replace(made, reference=spoiled)
    if where == "old":
        return replace(made, policy=spoiled, passes=Passes(epochs=2))
    if where == "gradient":
        made.policy.bias.register_hook(lambda gradient: gradient * value)
        return made
    if where in ("loss", "advantage"):
        return replace(made, objective=Spoiled(inner=made.objective, where=where, value=repr(value)))
    return made


class Spoiled(Objective):
    """An objective one of whose numbers is not finite."""

    inner: Any
    where: str
    value: str

    @property
    def refers(self) -> bool:
        return bool(self.inner.refers)

    def live(self, batch: Batch) -> torch.Tensor:
        return self.inner.live(batch)

    def advantage(self, batch: Batch) -> Batch:
        out: Batch = self.inner.advantage(batch)
        if self.where == "advantage":
            assert out.advantage is not None
            out = out.replace(advantage=out.advantage + float(self.value))
        return out

    def loss(self, now: Outputs, batch: Batch) -> Terms:
        terms: Terms = self.inner.loss(now, batch)
        return replace(terms, loss=terms.loss + float(self.value)) if self.where == "loss" else terms


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.type)
def test_a_ratio_that_is_not_finite_is_caught_as_a_loss(
    objective: Objective, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = F.importance.ratio

    def spoiled(log_ratio: torch.Tensor) -> torch.Tensor:
        spoil = torch.ones_like(log_ratio)
        spoil[0] = value
        return real(log_ratio) * spoil

    monkeypatch.setattr(F.importance, "ratio", spoiled)
    made = learner(objective)
    before = state(made)
    tally = run(made, Batch.of(groups()))
    assert all(torch.equal(a, b) for a, b in zip(before, state(made), strict=True))
    assert tally.skipped == ["loss"] or "gradient" in tally.skipped[0]
    assert "loss" not in tally.metrics(), "a step that was not taken has no loss"


def test_a_batch_without_a_signal_makes_no_update() -> None:
    same = [replace(g, rollouts=tuple(replace(r, reward=1.0) for r in g.rollouts)) for g in groups()]
    made = learner(GRPO())
    before = state(made)
    tally = run(made, Batch.of(same))
    assert all(torch.equal(a, b) for a, b in zip(before, state(made), strict=True))
    assert tally.skipped == [] and tally.metrics()["tokens/trained"] == 0.0


def test_the_gap_between_sampler_and_trainer_is_measured() -> None:
    batch = Batch.of(groups())
    made = learner(Reinforce())
    with torch.no_grad():
        assert batch.sampler is not None
        gap = (made.policy(batch).logp - batch.sampler).abs()
    metrics = run(made, batch).metrics()
    trained = metrics["tokens/trained"]
    assert 0 < trained <= gap.numel()
    assert metrics["policy/gap_max"] <= float(gap.max()) + 1e-6
    assert metrics["policy/gap"] > 0.1


@pytest.mark.parametrize(
    ("correction", "expected"), [(Truncate(cap=2.0), "truncated"), (Mask(low=0.5, high=2.0), "masked")]
)
def test_importance_corrections_scale_the_gradient_of_each_token(correction: Any, expected: str) -> None:
    batch = Batch.of(groups())
    plain, fixed = (
        learner(Reinforce()),
        learner(Reinforce(), settings=Training(micro_tokens=10_000, correction=correction)),
    )
    with torch.no_grad():
        old = plain.policy(batch).logp
    noise = torch.linspace(-1.5, 1.5, old.numel())
    batch = batch.replace(sampler=old - noise)
    ratio = noise.exp()
    weight = ratio.clamp(max=2.0) if expected == "truncated" else ratio * ((ratio >= 0.5) & (ratio <= 2.0))
    run(fixed, batch)
    wanted = learner(Reweighed(inner=Reinforce(), factor=weight.tolist()))
    run(wanted, batch)
    torch.testing.assert_close(fixed.optimizer.first["table"], wanted.optimizer.first["table"], rtol=1e-5, atol=1e-8)
    run(plain, batch)
    assert not torch.allclose(fixed.optimizer.first["table"], plain.optimizer.first["table"])


class Reweighed(Spoiled):
    """An objective whose weights are multiplied by given factors."""

    where: str = ""
    value: str = "0"
    factor: list[float]

    def weighting(self, batch: Batch) -> torch.Tensor:
        return self.inner.weighting(batch) * torch.tensor(self.factor)


def test_several_epochs_and_minibatches_measure_old_once_and_visit_every_row() -> None:
    batch = Batch.of(groups(6, 4))
    seen: list[int] = []
    made = learner(GRPO(), passes=Passes(epochs=2, minibatches=3))
    real = made.policy

    def counting(part: Batch) -> Outputs:
        if torch.is_grad_enabled():
            seen.extend(part.reward.tolist())
            assert part.old is not None
        return real(part)

    tally = run(replace(made, policy=counting), batch)
    assert made.optimizer.count == tally.steps == 6
    live = GRPO().live(GRPO().advantage(batch).replace(weight=torch.ones_like(batch.sampler)))
    assert len(seen) == 2 * int(live.sum())
