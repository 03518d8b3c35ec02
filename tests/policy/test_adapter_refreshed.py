"""A reference of an adapter that moves, and what else began where the adapter did and does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import klimb
from klimb.config import resolve
from klimb.objectives.carried import Refresh
from klimb.policy.adapter import Started
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.recipe import Recipe
from klimb.training.references import Refreshed
from tests.faults.runs import SETTINGS, content
from tests.faults.test_kill_iterative import ROUNDS
from tests.policy.test_adapter import logps, opened
from tests.policy.zoo import batch_of


def test_a_reference_that_is_refreshed_leaves_what_else_began_with_the_adapter_where_it_was() -> None:
    batch, policy, base = batch_of(), opened(), load(PolicySettings(), seed=5)
    assert policy.adapter is not None
    moving = Started(policy, policy.adapter)
    Refreshed(Refresh(), policy.named_parameters, moving.named_parameters).renew()
    assert torch.equal(logps(moving, batch), logps(policy, batch))
    assert torch.equal(logps(Started(policy, policy.adapter), batch), logps(base, batch))


def test_a_bandit_that_sees_the_start_of_an_adapter_goes_on_to_the_same_bits_in_a_later_round(tmp_path: Path) -> None:
    changes = {
        "model": {**SETTINGS["model"], "lora": {"rank": 2}},
        "data": {"type": "echo-digit", "train": 8},
        "combining": {"type": "selected", "choice": "batch", "gain": {"type": "negative_loss"}},
        "source": ROUNDS["source"] | {"prompts": 2, "passes": 1},
        "optimizer": {"lr": 0.1, "warmup": 0},
        "evaluation": ROUNDS["evaluation"] | {"start": False, "every": 99, "end": False},
        "checkpoints": {"every": 1, "keep": 9},
    }

    def run(folder: Path, steps: int) -> dict[str, Any]:
        settings = ROUNDS | changes | {"training": {"steps": steps}}
        return content(klimb.train(resolve(Recipe, settings), run=folder).path)

    whole = run(tmp_path / "whole", 5)
    for steps in (3, 5):
        ended = run(tmp_path / "parts", steps)
    assert [name for name in whole if ended[name] != whole[name] and name != "config.json"] == []
