"""The recipes do what their headers say one should see."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

import klimb

EACH = [
    "rpg", "reinforce", "rloo", "grpo-kl", "dr-grpo", "dapo", "gspo", "gspo-token", "cispo", "reinforce-pp",
    "reinforce-pp-baseline", "rpg-refreshed", "ppo", "schedule-free",
]  # fmt: skip
SLOW = [pytest.param(f"tiny-{name}", marks=pytest.mark.slow) for name in EACH]


@pytest.mark.parametrize("name", ["tiny", *SLOW])
def test_a_tiny_recipe_raises_its_reward_and_leaves_a_complete_run(name: str, root: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    started = time.process_time()
    recipe = klimb.load_recipe(root / f"recipes/{name}.yaml")
    result, steps = klimb.train(recipe, run=tmp_path / "run"), recipe.training.steps
    spent = time.process_time() - started
    assert spent < 40, f"{spent:.0f} s of one core"
    assert result.before["eval/accuracy"] < 0.1
    assert result.after["eval/accuracy"] > 0.5
    assert result.after["eval/format"] > 0.9
    page = result.report.read_text("utf-8")
    assert "<svg" in page and "held-out accuracy" in page.lower()
    assert len(list((tmp_path / "run/rollouts").iterdir())) == result.step == steps
