"""A critic in training: values before the loss, nothing bad in the optimizer, the same bits after a kill."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import klimb
from klimb import functional as F
from klimb.batch import Batch, Outputs
from klimb.config import resolve
from klimb.errors import CheckpointError
from klimb.objectives.bradley_terry import BradleyTerry
from klimb.objectives.ppo import PPO
from klimb.policy.critic import Critic
from klimb.recipe import Recipe
from klimb.rundir import RunDir
from klimb.selection.every import Every
from klimb.training import state as saved
from klimb.training.base import AdamW, Training
from klimb.training.optimizer import MasterAdamW
from klimb.training.step import Learner, learn
from klimb.training.stopwatch import Stopwatch
from klimb.training.tally import Tally
from klimb.training.weighing import Passes
from klimb.types import Label
from tests.faults.runs import SETTINGS, content
from tests.faults.test_kill import Child, kill
from tests.training.toy import VOCABULARY, Bigram, groups

LABELS = (Label.CHOSEN, Label.REJECTED)


class Valued(Bigram):
    """The bigram policy with a value for each last token."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.linspace(-0.5, 0.5, VOCABULARY))

    def forward(self, batch: Batch) -> Outputs:
        return replace(super().forward(batch), value=self.values[batch.tokens])


def learner(policy: nn.Module | None = None, **changes: Any) -> Learner:
    made: Any = policy or Valued()
    optimizer = MasterAdamW(made.named_parameters(), AdamW(lr=0.05))
    return replace(Learner(made, optimizer, PPO(), Every(), Training(micro_tokens=10_000)), **changes)


def run(made: Learner, batch: Batch) -> Tally:
    return learn(made, batch, 0.05, 0, Stopwatch())


def state(made: Learner) -> list[torch.Tensor]:
    held = made.optimizer.state() | dict(made.optimizer.master)
    return [tensor.clone() for tensor in held.values()] + [torch.tensor(made.optimizer.count)]


def test_one_batch_whole_and_in_parts_gives_the_same_update_of_policy_and_critic() -> None:
    batch = Batch.of(groups(8, 8))
    whole, parts = learner(), learner(settings=Training(micro_tokens=30))
    first, second = run(whole, batch).metrics(), run(parts, batch).metrics()
    for name, weight in whole.policy.named_parameters():  # type: ignore[attr-defined]
        torch.testing.assert_close(weight, dict(parts.policy.named_parameters())[name], rtol=1e-5, atol=1e-6)  # type: ignore[attr-defined]
    assert first.keys() == second.keys()
    assert {"value/loss", "value/explained_variance", "value/mean"} <= first.keys()
    for name, value in first.items():
        assert math.isclose(value, second[name], rel_tol=1e-5, abs_tol=1e-6), name
    assert not torch.equal(whole.policy.values, Valued().values)  # type: ignore[attr-defined]


@pytest.mark.parametrize("several", [False, True], ids=["one pass", "four updates"])
def test_values_are_measured_once_before_the_first_pass_and_old_log_probs_with_them(several: bool) -> None:
    batch, before = Batch.of(groups(4, 4)), Valued()
    seen: list[Batch] = []
    forwards = 0
    made = learner(passes=Passes(epochs=2, minibatches=2) if several else Passes())
    real = made.policy

    def watching(part: Batch) -> Outputs:
        nonlocal forwards
        if torch.is_grad_enabled():
            seen.append(part)
        else:
            forwards += 1
        return real(part)

    run(replace(made, policy=watching), batch)
    assert (forwards, len(seen)) == (1, 4 if several else 1)
    for part in seen:
        known = before(part)
        assert part.value is not None and (part.old is not None) == several
        torch.testing.assert_close(part.value, known.value)
        if part.old is not None:
            torch.testing.assert_close(part.old, known.logp)


@pytest.mark.parametrize("passes", [Passes(), Passes(epochs=2), Passes(minibatches=2)], ids=str)
def test_a_reward_model_makes_no_forward_pass_before_its_loss(passes: Passes) -> None:
    pairs = [
        replace(one, rollouts=tuple(replace(r, label=label) for r, label in zip(one.rollouts, LABELS, strict=True)))
        for one in groups(4, 2)
    ]
    made, forwards = learner(objective=BradleyTerry(), passes=passes), [0, 0]
    real = made.policy

    def watching(part: Batch) -> Outputs:
        forwards[torch.is_grad_enabled()] += 1
        return real(part)

    run(replace(made, policy=watching), Batch.of(pairs))
    assert forwards == [0, passes.epochs * passes.minibatches]


def test_the_explained_variance_is_that_of_the_values_before_the_update_over_the_whole_batch() -> None:
    batch = Batch.of(groups(6, 4))
    found = PPO().advantage(batch.replace(value=Valued()(batch).value.detach()))
    assert found.value is not None and found.returns is not None
    wanted = float(F.value.explained_variance(found.value, found.returns, found.learn))
    metrics = run(learner(passes=Passes(epochs=2, minibatches=3)), batch).metrics()
    assert metrics["value/explained_variance"] == pytest.approx(wanted, rel=1e-6)


def test_where_the_returns_do_not_vary_no_explained_variance_is_said() -> None:
    same = [replace(g, rollouts=tuple(replace(r, reward=1.0) for r in g.rollouts)) for g in groups()]
    flat = Valued()
    with torch.no_grad():
        flat.values.zero_()
    metrics = run(learner(flat, objective=PPO(lam=1.0)), Batch.of(same)).metrics()
    assert "value/explained_variance" not in metrics
    assert metrics["value/loss"] == pytest.approx(0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("when", ["before", "in the loss"])
def test_a_value_that_is_not_finite_never_reaches_the_optimizer(when: str, value: float) -> None:
    made = learner()
    real = made.policy

    def spoiled(batch: Batch) -> Outputs:
        out = real(batch)
        assert out.value is not None
        spoil = torch.zeros_like(out.value)
        spoil[0] = value if torch.is_grad_enabled() == (when == "in the loss") else 0.0
        return replace(out, value=out.value + spoil)

    made = replace(made, policy=spoiled)
    before = state(made)
    tally = run(made, Batch.of(groups()))
    assert all(torch.equal(a, b) for a, b in zip(before, state(made), strict=True))
    assert tally.skipped == ["value"]
    assert all(math.isfinite(number) for number in tally.metrics().values())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(**sections: Any) -> dict[str, Any]:
    """The small run under PPO, for six steps."""
    base = json.loads(json.dumps({**SETTINGS, "objective": {"type": "ppo"}}))
    return base | {"training": {"steps": 6, "micro_tokens": 64}} | sections


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("done") / "run"
    klimb.train(resolve(Recipe, settings()), run=path)
    torch.set_num_threads(threads)
    return path


def test_a_checkpoint_keeps_the_critic_beside_the_model_and_its_moments_in_the_optimizer(done: Path) -> None:
    folder = done / "checkpoints/step-000006"
    critic, moments = (load_file(folder / f"{name}.safetensors") for name in ("critic", "optimizer"))
    assert set(critic) == {"weight", "bias"} and all((tensor != 0).any() for tensor in critic.values())
    assert {"first.critic.weight", "second.critic.weight", "first.critic.bias", "second.critic.bias"} <= set(moments)
    assert (moments["second.critic.weight"] > 0).any()
    assert not [name for name in load_file(folder / "model/model.safetensors") if "critic" in name]
    lines = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    assert all({"value/loss", "value/mean"} <= set(line) for line in lines[1:])


def test_a_run_with_a_critic_that_was_killed_goes_on_to_the_same_bytes(done: Path, tmp_path: Path) -> None:
    kill(tmp_path / "run", ("optimize", 18), 0.001, settings())
    child = Child(tmp_path / "run", settings())
    child.stages()
    assert child.wait() == 0
    ended, wanted = content(tmp_path / "run"), content(done)
    assert ended.keys() == wanted.keys()
    assert [name for name in ended if ended[name] != wanted[name]] == []


def test_schedule_free_goes_on_with_a_detached_critic_to_the_same_bits(tmp_path: Path) -> None:
    def made(steps: int) -> Recipe:
        free = {"type": "schedule_free", "lr": 0.003}
        chosen = settings(optimizer=free, objective={"type": "ppo", "trunk": False})
        return resolve(Recipe, chosen | {"training": {"steps": steps, "micro_tokens": 64}})

    klimb.train(made(3), run=tmp_path / "whole")
    klimb.train(made(2), run=tmp_path / "broken")
    klimb.train(made(3), run=tmp_path / "broken")
    last = "checkpoints/step-000003"
    for name in ("critic.safetensors", "optimizer.safetensors", "model/model.safetensors"):
        assert (tmp_path / "whole" / last / name).read_bytes() == (tmp_path / "broken" / last / name).read_bytes(), name


def test_a_fork_from_a_run_without_a_critic_begins_one_and_says_so(tmp_path: Path) -> None:
    plain = settings(objective={"type": "grpo"}) | {"training": {"steps": 1, "micro_tokens": 64}}
    klimb.train(resolve(Recipe, plain), run=tmp_path / "plain")
    assert not (tmp_path / "plain/checkpoints/step-000001/critic.safetensors").exists()
    chosen = settings() | {"training": {"steps": 3, "micro_tokens": 64}, "checkpoints": {"every": 1, "keep": 9}}
    klimb.train(resolve(Recipe, chosen), run=tmp_path / "fork", fork=f"{tmp_path / 'plain'}@1")
    (told,) = [event for event in RunDir.open(tmp_path / "fork").read_events() if event["kind"] == "begun_anew"]
    assert told["what"] == ["critic"]
    held = [load_file(tmp_path / f"fork/checkpoints/step-{step:06d}/critic.safetensors") for step in (1, 3)]
    assert not held[0]["weight"].any() and held[1]["weight"].any(), "zero where it began, and it has learned"
    shutil.rmtree(tmp_path / "fork/checkpoints/step-000003")
    klimb.train(resolve(Recipe, chosen), run=tmp_path / "fork")
    again = load_file(tmp_path / "fork/checkpoints/step-000003/critic.safetensors")
    assert torch.equal(again["weight"], held[1]["weight"]), "goes on to the same bits"
    moments = load_file(tmp_path / "fork/checkpoints/step-000003/optimizer.safetensors")
    assert int(moments["begun.critic.weight"]) == 2, "the updates of the step before"
    lacking = tmp_path / "fork/checkpoints/step-000003/critic.safetensors"
    lacking.unlink()
    with pytest.raises(CheckpointError, match=r"critic\.safetensors is missing"):
        saved.restore(lacking.parent, MasterAdamW([], AdamW()), {"critic": Critic(2)})
