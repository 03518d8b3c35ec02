"""Small critics with a model of their own, and runs with one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import klimb
from klimb.config import resolve
from klimb.objectives.ppo import PPO
from klimb.policy import reward_head
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.policy.value_model import open_value_model
from klimb.recipe import Recipe
from klimb.selection.every import Every
from klimb.training.base import AdamW, Training
from klimb.training.optimizer import MasterAdamW
from klimb.training.own_critic import OwnCritic
from klimb.training.step import Learner
from tests.faults.runs import SETTINGS, content

SMALL = PolicySettings(name="tiny", tiny={"hidden": 32, "layers": 1})


def learner(value_weight: float = 1.0) -> Learner:
    """A small policy under PPO with such a critic, at the bound on the norm that is the default."""
    policy = load(SMALL)
    critic, how = open_value_model(None, SMALL, policy, 0)
    assert how.endswith("a head of zeros") and critic.trunk.version() == policy.version()
    optimizer = MasterAdamW(policy.named_parameters(), AdamW())
    objective = PPO(lam=1.0, value_weight=value_weight, value_clip=None)
    return Learner(policy, optimizer, objective, Every(), Training(), critic=OwnCritic(critic, AdamW()))


def reward_model(folder: Path, scale: reward_head.Scale | None = None, seed: int = 5, **sizes: Any) -> Path:
    """A folder as training a reward model leaves it, its head not zero."""
    policy = load(PolicySettings(name="tiny", tiny={"hidden": 32, **sizes}), seed)
    critic = policy.add_critic()
    with torch.no_grad():
        critic.weight.copy_(0.1 * torch.randn(32, generator=torch.Generator().manual_seed(1)))
        critic.bias.fill_(0.3)
    reward_head.save(policy, scale, folder)
    return folder


def ppo(**value: Any) -> dict[str, Any]:
    """PPO's settings with a critic that has a model of its own."""
    return {"objective": {"type": "ppo", "value": {"type": "model", **value}}}


def recipe(steps: int, **sections: Any) -> Recipe:
    """A run with such a critic, one update a step."""
    base = {**json.loads(json.dumps(SETTINGS)), **ppo()}
    base |= {"training": {"steps": steps, "micro_tokens": 64}, "checkpoints": {"every": 1}}
    base |= {"evaluation": {"every": 9, "problems": 1, "start": False}, "source": {"prompts": 2, "completions": 4}}
    return resolve(Recipe, base | sections)


def goes_on_to_the_same_bytes(run: Path, chosen: dict[str, Any]) -> Path:
    """The last checkpoint of a run of two steps, of which the second was lost and done again."""
    last = run / "checkpoints/step-000002"
    klimb.train(recipe(2, **chosen), run=run)
    whole = content(run)
    shutil.rmtree(last)
    klimb.train(recipe(2, **chosen), run=run)
    assert content(run) == whole
    return last


def parts(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """What stands in a saved state under names that begin so, by the rest of the name."""
    return {name.removeprefix(prefix): held for name, held in state.items() if name.startswith(prefix)}


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Whether two states are the same to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
