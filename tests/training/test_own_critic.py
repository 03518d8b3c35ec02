"""A critic with a model of its own learns by an update of its own, and nothing of it moves the policy's."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import klimb
from klimb.batch import Batch, Outputs
from klimb.errors import Diverged
from klimb.policy.value_model import ValueModel
from klimb.rundir import RunDir
from klimb.selection.base import EntropyOf
from klimb.selection.every import Every
from klimb.selection.top import Top
from klimb.training.step import Learner, learn
from klimb.training.stopwatch import Stopwatch
from klimb.training.tally import Tally
from klimb.training.updater import Updater
from klimb.training.weighing import Passes
from tests.training.toy import groups
from tests.training.value_models import learner, parts, ppo, recipe, same

CURRENT = EntropyOf(of="current")


def run(made: Learner, seed: int = 0) -> Tally:
    return learn(made, Batch.of(groups(4, 4, seed)), 0.005, 0, Stopwatch())


def held(updater: Updater) -> dict[str, torch.Tensor]:
    """Weights and moments."""
    return {name: tensor.clone() for name, tensor in (dict(updater.master) | updater.state()).items()}


def both(made: Learner) -> list[dict[str, torch.Tensor]]:
    """What the policy's optimizer holds, and the critic's."""
    return [held(updater) for updater in made.updaters]


def test_it_learns_what_answers_are_worth_and_its_loss_moves_nothing_of_the_policy() -> None:
    batch = Batch.of(groups(4, 4))
    weak, strong = learner(0.1), learner(10.0)
    before = held(weak.optimizer)
    found = [learn(one, batch, 0.005, 0, Stopwatch()).metrics() for one in (weak, strong)]
    assert same(held(weak.optimizer), held(strong.optimizer)), "to the bit, at the default bound on the norm"
    assert not same(before, held(strong.optimizer)), "the policy has learned"
    small, large = (line["optim/critic_grad_norm"] for line in found)
    assert large == pytest.approx(100 * small, rel=1e-4) and large > 1.0 > small
    assert found[0]["optim/grad_norm"] == found[1]["optim/grad_norm"]
    found += [learn(strong, batch, 0.005, 0, Stopwatch()).metrics() for _ in range(15)]
    known = [line["value/explained_variance"] for line in found]
    assert known[0] == pytest.approx(0.0, abs=1e-6) and known[-1] > 0.5, known
    assert found[-1]["value/loss"] < 0.5 * found[0]["value/loss"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_leaves_out_the_update_of_its_own_model_alone(value: float) -> None:
    sound, whose = learner(), ("", "the critic's ")
    run(sound)
    for broken, name in ((0, "model.norm.weight"), (1, "critic.bias")):
        made, other = learner(), 1 - broken
        assert made.critic is not None
        weights: Any = (made.policy, made.critic.model)[broken]
        hook = dict(weights.named_parameters())[name].register_hook(lambda gradient: gradient * value)
        before = both(made)
        tally = run(made)
        after = both(made)
        assert same(after[other], both(sound)[other]), "as where nothing is wrong with the first"
        assert same(after[broken], before[broken]) and not made.updaters[broken].gradients()
        assert tally.skipped == [f"gradient of {whose[broken]}{name}"] and tally.stuck
        metrics = tally.metrics()
        assert (metrics["optim/skipped"], metrics["optim/critic_skipped"]) == (other, broken)
        assert ("optim/grad_norm" in metrics, "optim/critic_grad_norm" in metrics) == (bool(broken), bool(other))
        assert all(math.isfinite(number) for number in metrics.values())
        hook.remove()
        assert not run(made).skipped and not same(both(made)[broken], before[broken]), "it learns from what comes next"


@pytest.mark.parametrize(("policy", "critic"), [(0.0, 0.003), (0.003, 0.0)])
def test_it_may_have_a_learning_rate_of_its_own(policy: float, critic: float, tmp_path: Path) -> None:
    chosen = {"optimizer": {"lr": policy, "warmup": 2, "schedule": "linear"}, **ppo(lr=critic)}
    klimb.train(recipe(3, **chosen, checkpoints={"every": 1, "keep": 9}), run=tmp_path / "run")
    run = RunDir.open(tmp_path / "run")
    told = [(line["optim/lr"], line["optim/critic_lr"]) for line in run.read_metrics()[-3:]]
    assert told == [(pytest.approx(share * policy), pytest.approx(share * critic)) for share in (0.5, 1.0, 0.5)]
    first, last = (run.checkpoints / f"step-00000{step}" for step in (1, 3))
    assert (_policy(first) == _policy(last)) == (policy == 0.0)
    kept = [parts(load_file(at / "value_model.safetensors"), "weights.") for at in (first, last)]
    assert same(*kept) == (critic == 0.0)


def _policy(checkpoint: Path) -> bytes:
    return (checkpoint / "model/model.safetensors").read_bytes()


def test_a_critic_that_cannot_learn_for_three_steps_stops_the_run_as_a_policy_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = ValueModel.__call__, list[int]()

    def spoiled(self: ValueModel, batch: Batch) -> Any:
        value = real(self, batch)
        if value.requires_grad:
            calls.append(1)
            if len(calls) > 2:
                value.register_hook(lambda gradient: gradient * math.nan)
        return value

    monkeypatch.setattr(ValueModel, "__call__", spoiled)
    chosen = recipe(9, training={"steps": 9, "micro_tokens": 9999})
    with pytest.raises(Diverged, match="3 steps in a row were not finite"):
        klimb.train(chosen, run=tmp_path / "run")
    run = RunDir.open(tmp_path / "run")
    told = [(line["optim/skipped"], line["optim/critic_skipped"]) for line in run.read_metrics()[-5:]]
    assert told == [(0.0, 0.0)] * 2 + [(0.0, 1.0)] * 3
    (what,) = {event["what"] for event in run.read_events() if event["kind"] == "skipped"}
    assert what.startswith("gradient of the critic's ") and what.endswith("the update was not made")


def test_values_alone_take_no_forward_pass_of_the_policy_unless_that_says_what_is_needed() -> None:
    made, batch = learner(), Batch.of(groups(2, 4))
    asked = ((Every(), Passes(), 0), (Top(share=0.5, entropy=CURRENT), Passes(), 1), (Every(), Passes(2, 1), 1))
    for selector, passes, more in asked:
        learns: list[bool] = []

        def policy(part: Batch, learns: list[bool] = learns) -> Outputs:
            learns.append(torch.is_grad_enabled())
            return made.policy(part)

        one = replace(made, policy=policy, selector=selector, passes=passes)
        assert not learn(one, batch, 0.0, 0, Stopwatch()).skipped
        assert learns.count(False) == more and learns.count(True) == passes.epochs, selector
