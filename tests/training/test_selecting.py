"""A selector inside the step: it reaches the loss, whatever the parts; and what it did is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from klimb.batch import Batch, Outputs, Terms
from klimb.errors import GenerationError
from klimb.objectives.base import Objective
from klimb.objectives.dapo import DAPO
from klimb.selection import Above, Bottom, Every, Random, Selector, Top
from klimb.selection.base import EntropyOf
from klimb.tracking.metrics import unknown
from klimb.training.base import AdamW, Training
from klimb.training.optimizer import MasterAdamW
from klimb.training.reference import outputs
from klimb.training.selecting import clipped_of_all
from klimb.training.step import Learner, learn
from klimb.training.stopwatch import Stopwatch
from klimb.training.tally import Tally
from klimb.training.weighing import Passes, weigh
from tests.objectives.kit import EVERY as OBJECTIVES
from tests.objectives.kit import batch as objective_batch
from tests.objectives.kit import moved, update
from tests.objectives.kit import named as objective_named
from tests.training.toy import Bigram, groups

CURRENT = EntropyOf(of="current")


def learner(selector: Selector, objective: Objective | None = None, **changes: Any) -> Learner:
    policy = Bigram()
    optimizer = MasterAdamW(policy.named_parameters(), AdamW(lr=0.05))
    made = Learner(policy, optimizer, objective or DAPO(), selector, Training(micro_tokens=10_000), Bigram())
    return replace(made, **changes)


def batch(prompts: int = 4) -> Batch:
    """A batch with entropies that are all different."""
    made = Batch.of(groups(prompts))
    noise = torch.rand(made.tokens.numel(), generator=torch.Generator().manual_seed(1))
    return made.replace(entropy=noise, key=torch.arange(made.rows))


def run(made: Learner, given: Batch) -> Tally:
    return learn(made, given, 0.05, 0, Stopwatch())


@pytest.mark.parametrize("selector", [Top(), Bottom(), Random(), Top(population="row")], ids=lambda s: s.type)
def test_the_option_reaches_the_first_step(selector: Top) -> None:
    whole = batch()
    made = learner(selector)
    metrics = run(made, whole).metrics()
    share = int(selector.keep(whole).sum()) / whole.learn.sum()
    assert metrics["selection/share"] == pytest.approx(float(share))
    assert metrics["selection/share"] < 0.5
    assert unknown(metrics) == []
    everything = learner(Every())
    plain = run(everything, whole).metrics()
    assert not any(name.startswith("selection/") for name in plain)
    assert not torch.equal(made.policy.table, everything.policy.table)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=objective_named)
@pytest.mark.parametrize("normaliser", ["kept", "all"])
def test_a_dropped_token_has_exactly_zero_gradient(objective: Objective, normaliser: Any) -> None:
    whole = objective.advantage(objective_batch(3).replace(entropy=torch.rand(objective_batch(3).tokens.numel())))
    chosen = weigh(whole, objective, Top(share=0.4, normaliser=normaliser, kl="kept"))
    assert 0 < chosen.learn.sum() < whole.learn.sum()
    _, gradient = update(objective, chosen, moved(whole))
    assert (gradient[~chosen.learn] == 0).all()
    assert (gradient[chosen.learn] != 0).any()


def test_the_two_normalisers_differ_by_exactly_n_over_kept() -> None:
    whole = DAPO().advantage(batch())
    v2, v1 = (weigh(whole, DAPO(), Top(normaliser=name)) for name in ("kept", "all"))
    assert v1.weight is not None and v2.weight is not None
    ratio = v2.weight[v2.learn] / v1.weight[v1.learn]
    torch.testing.assert_close(ratio, torch.full_like(ratio, float(whole.learn.sum() / v1.learn.sum())))
    assert float(v2.weight.sum()) == pytest.approx(1.0)
    made = [learner(Top(normaliser=name)) for name in ("kept", "all")]
    first, second = (run(one, batch()).metrics() for one in made)
    assert first["optim/grad_norm"] / second["optim/grad_norm"] == pytest.approx(float(ratio[0]), rel=1e-5)
    assert first["policy/clip_share"] == pytest.approx(second["policy/clip_share"])


@pytest.mark.parametrize("of", ["sampling", "current"])
def test_the_update_is_the_same_in_one_part_and_in_many(of: Any) -> None:
    selector = Top(share=0.3, entropy=EntropyOf(of=of))
    whole, parts = learner(selector), learner(selector, settings=Training(micro_tokens=30))
    assert len(list(batch(8).split(30))) >= 8
    first, second = run(whole, batch(8)).metrics(), run(parts, batch(8)).metrics()
    torch.testing.assert_close(whole.policy.table, parts.policy.table, rtol=1e-6, atol=1e-7)
    for name, value in first.items():
        assert math.isclose(value, second[name], rel_tol=1e-5, abs_tol=1e-6), name


def test_a_micro_batch_population_depends_on_the_parts() -> None:
    selector = Top(share=0.3, population="micro")
    whole, parts = learner(selector), learner(selector, settings=Training(micro_tokens=30))
    first, second = run(whole, batch(8)).metrics(), run(parts, batch(8)).metrics()
    assert first["selection/share"] < second["selection/share"] < 0.5
    flat = batch(8).replace(reward=torch.ones(batch(8).rows))
    dead = run(learner(selector, settings=Training(micro_tokens=30)), flat).metrics()
    assert dead["selection/share"] == second["selection/share"], "parts are of the whole step, whatever then runs"


def seen_by(objective: Objective) -> tuple[Objective, list[Batch]]:
    """The objective, and the batches whose loss is asked with a gradient."""
    seen: list[Batch] = []

    class Watching(type(objective)):  # type: ignore[misc]
        def loss(self, now: Outputs, given: Batch) -> Terms:
            if torch.is_grad_enabled():
                seen.append(given)
            terms: Terms = super().loss(now, given)
            return terms

    return Watching(**objective.model_dump()), seen


def test_the_current_policy_is_asked_before_every_update_and_not_twice_before_the_first() -> None:
    objective, seen = seen_by(DAPO())
    made = learner(Top(entropy=CURRENT), objective, passes=Passes(epochs=2))
    passes: list[Outputs] = []
    real = made.policy

    def counted(given: Batch) -> Outputs:
        out = real(given)
        if not torch.is_grad_enabled():
            passes.append(out)
        return out

    run(replace(made, policy=counted), batch())
    assert len(seen) == 2
    assert len(passes) == 2, "the old log-probs with the first entropies, and the second entropies"
    assert not torch.equal(passes[0].entropy, passes[1].entropy)
    assert seen[0].entropy is not None
    assert torch.isin(seen[0].entropy, passes[0].entropy).all()


def test_another_temperature_ranks_by_the_entropies_of_that_temperature() -> None:
    objective, seen = seen_by(DAPO())
    selector = Top(entropy=EntropyOf(of="current", temperature=3.0))
    made = learner(selector, objective)
    wanted = outputs(Bigram(), batch().replace(temperature=3.0), 10_000).entropy
    tally = run(made, batch())
    assert tally.metrics()["selection/threshold"] == pytest.approx(
        float(wanted.sort(descending=True).values[int(seen[0].learn.sum()) - 1]), abs=0.3
    )
    assert seen[0].temperature == 1.0
    assert torch.isin(seen[0].entropy, wanted).all()  # type: ignore[arg-type]


def test_the_numbers_that_are_told_are_those_of_the_kept_and_the_dropped() -> None:
    whole = batch()
    selector = Top()
    keep = selector.keep(whole)
    assert whole.entropy is not None
    metrics = run(learner(selector), whole).metrics()
    assert metrics["selection/entropy_kept"] == pytest.approx(float(whole.entropy[keep].mean()), rel=1e-5)
    assert metrics["selection/entropy_dropped"] == pytest.approx(float(whole.entropy[~keep].mean()), rel=1e-5)
    assert metrics["selection/threshold"] == pytest.approx(float(whole.entropy[keep].min()))


def test_the_clip_share_is_told_over_the_kept_and_over_all() -> None:
    """Kept tokens are those that moved; a share over all tokens looks smaller, and both are right."""
    objective, selector = DAPO(), Top(share=0.25)
    whole = batch()
    old = torch.full((len(whole.tokens),), -2.0)
    chosen = weigh(objective.advantage(whole.replace(old=old)), objective, selector)
    assert chosen.advantage is not None and chosen.entropy is not None
    moved = (chosen.entropy > 0.6) & (torch.arange(len(old)) % 2 == 0) & (chosen.advantage != 0)
    now = Outputs(old + torch.where(moved, 0.5 * chosen.advantage.sign(), torch.zeros_like(old)), torch.zeros_like(old))
    tally = Tally()
    tally.add(objective.loss(now, chosen), float(chosen.weight.sum()))  # type: ignore[union-attr]
    clipped_of_all(tally, objective, now, chosen)
    metrics = tally.metrics()
    kept, every = (int((moved & mask).sum()) / int(mask.sum()) for mask in (chosen.learn, whole.learn))
    assert kept > 1.2 * every > 0
    assert metrics["policy/clip_share"] == pytest.approx(kept, rel=1e-5)
    assert metrics["selection/clip_share_all"] == pytest.approx(every, rel=1e-5)
    steps = run(learner(selector, DAPO(eps_low=1e-6, eps_high=1e-6), passes=Passes(epochs=3)), whole).metrics()
    assert 0 < steps["selection/clip_share_all"] <= 1


def test_a_missing_entropy_is_one_clear_error() -> None:
    with pytest.raises(GenerationError, match=r"try: selector.entropy.of=current"):
        run(learner(Top()), batch().replace(entropy=None))
    assert run(learner(Top(entropy=CURRENT)), batch().replace(entropy=None)).steps == 1


def test_an_entropy_that_is_not_finite_is_named_and_nothing_moves() -> None:
    whole = batch()
    assert whole.entropy is not None
    whole.entropy[2] = math.nan
    made = learner(Top())
    assert run(made, whole).skipped == ["entropy"]
    assert run(learner(Every()), whole).skipped == []
    assert made.optimizer.count == 0


def test_a_threshold_that_nothing_reaches_makes_no_update() -> None:
    tally = run(learner(Above(at=50.0)), batch())
    assert tally.steps == 0
    assert tally.metrics()["selection/share"] == 0.0
    assert "selection/entropy_kept" not in tally.metrics()


def test_rows_without_a_kept_token_are_not_run() -> None:
    whole = batch(8)
    made = learner(Top(share=0.02))
    rows: list[int] = []
    real: Callable[[Batch], Outputs] = made.policy
    run(replace(made, policy=lambda given: rows.append(given.rows) or real(given)), whole)  # type: ignore[func-returns-value]
    assert 0 < sum(rows) <= int(Top(share=0.02).keep(whole).sum()) < whole.rows
