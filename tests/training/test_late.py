"""What comes in late: weights and optimizers that a fork begins anew, and entropies that a critic's pass has given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import klimb
from klimb.batch import Batch, Outputs
from klimb.config import resolve
from klimb.errors import CheckpointError
from klimb.objectives.ppo import PPO
from klimb.policy.loading import load
from klimb.recipe import Recipe
from klimb.selection import Top
from klimb.training import state
from klimb.training.updater import open_updater
from tests.policy.test_trunk import untied
from tests.training.test_schedule_free import settings
from tests.training.test_selecting import CURRENT, batch, learner, run
from tests.training.toy import Bigram


def test_weights_that_come_in_later_are_refused_with_a_cure(tmp_path: Path) -> None:
    klimb.train(resolve(Recipe, settings(training={"steps": 1})), run=tmp_path / "first")
    chosen = settings(objective={"type": "ppo"}, training={"steps": 2})
    with pytest.raises(CheckpointError, match=r"critic\.bias.*one average.*without --fork"):
        klimb.train(resolve(Recipe, chosen), run=tmp_path / "second", fork=f"{tmp_path / 'first'}@1")
    assert not (tmp_path / "second").exists(), "no directory is left behind that can only fail again"


@pytest.mark.parametrize(("began", "goes_on"), [("adamw", "schedule_free"), ("schedule_free", "adamw")])
def test_the_state_of_another_optimizer_is_refused_before_a_fork_has_a_directory(
    began: str, goes_on: str, tmp_path: Path
) -> None:
    origin, second = tmp_path / "first", tmp_path / "second"
    klimb.train(resolve(Recipe, settings(optimizer={"type": began}, training={"steps": 1})), run=origin)
    other = resolve(Recipe, settings(optimizer={"type": goes_on}, training={"steps": 2}))
    with pytest.raises(CheckpointError, match=f"is {began}'s and not {goes_on}'s: it is that of another optimizer"):
        klimb.train(other, run=second, fork=f"{origin}@1")
    assert not second.exists(), "no directory is left behind that can only fail again"
    updater = open_updater(other.optimizer, load(other.model, other.seed).named_parameters())
    with pytest.raises(CheckpointError, match=r"has no .*: it is that of another optimizer"):
        state.restore(origin / "checkpoints/step-000001", updater)


@pytest.mark.parametrize("tied", [True, False])
def test_an_average_without_an_output_layer_is_refused_before_a_fork_has_a_directory(
    tied: bool, tmp_path: Path
) -> None:
    model = {"name": "tiny"} if tied else {"name": str(untied("llama", tmp_path / "model"))}
    asked = settings(
        model=model, data={"type": "echo-pairs", "train": 8}, rewards=[], training={"steps": 1},
        objective={"type": "bradley_terry"}, source={"type": "pairs", "prompts": 2}, evaluation={"problems": 2},
    )  # fmt: skip
    first, second = klimb.train(resolve(Recipe, asked), run=tmp_path / "first"), tmp_path / "second"
    speaks = resolve(Recipe, asked | {"objective": {"type": "simpo"}, "training": {"steps": 2}})
    if tied:
        assert klimb.train(speaks, run=second, fork=f"{first.path}@1").step == 2
        return
    with pytest.raises(CheckpointError, match=r"lm_head\.weight.*one average.*without --fork"):
        klimb.train(speaks, run=second, fork=f"{first.path}@1")
    assert not second.exists(), "no directory is left behind that can only fail again"


def test_a_critics_pass_before_the_first_update_gives_the_entropies_that_rank_too() -> None:
    policy, calls = Bigram(), list[bool]()

    def valued(given: Batch) -> Outputs:
        calls.append(torch.is_grad_enabled())
        out = policy(given)
        return replace(out, value=out.logp * 0.1)

    selector = Top(entropy=CURRENT)
    run(learner(selector, PPO(), policy=valued), batch())
    assert calls == [False, True], "the values with the entropies, then the update"
