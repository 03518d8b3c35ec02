"""The initial policy beside the one that learns: loaded no more often than somebody else moves it, and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import klimb
from klimb.cli.arithmetic import arithmetic
from klimb.config import resolve
from klimb.policy import loading
from klimb.recipe import Recipe
from tests.faults.runs import SETTINGS

GRPO: dict[str, Any] = {"type": "grpo", "beta": 0.1}
CHOSEN: dict[str, Any] = {
    "combining": {"type": "selected", "judge": "length"},
    "rewards": [*SETTINGS["rewards"], {"type": "length", "weight": 0.0}],
}
BLIND = {"combining": {"type": "selected", "bandit": {"type": "random"}}}
GIVEN = {"data": {"type": "echo-pairs", "train": 8}, "rewards": []}
PAIRS = {**GIVEN, "source": {"type": "pairs", "prompts": 2}}


@pytest.mark.parametrize(
    ("changes", "copies"),
    [
        ({"objective": {"type": "grpo"}}, 0),
        ({"objective": GRPO}, 1),
        ({"objective": {"type": "grpo"}, **CHOSEN}, 1),
        ({"objective": {"type": "grpo"}, **BLIND}, 0),
        ({"objective": GRPO, **CHOSEN}, 1),
        ({"objective": GRPO | {"kl": {"refresh": {"every": 2}}}, **CHOSEN}, 2),
        ({"objective": GRPO, **CHOSEN, "model": {**SETTINGS["model"], "lora": {"rank": 2}}}, 0),
        ({"objective": {"type": "sft"}, **GIVEN, "source": {"type": "answers", "prompts": 2}}, 1),
        ({"objective": {"type": "dpo"}, **PAIRS}, 1),
        ({"objective": {"type": "bradley_terry"}, **PAIRS}, 0),
    ],
)
def test_the_dry_run_counts_the_frozen_copies_that_a_run_loads(
    changes: dict[str, Any], copies: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS | {"source": {"prompts": 2, "completions": 4}, "training": {"steps": 2, "micro_tokens": 64}}
    recipe = resolve(Recipe, settings | {"evaluation": {"problems": 2}} | changes)
    loads, load = [], loading.load
    monkeypatch.setattr(loading, "load", lambda *asked, **how: loads.append(asked) or load(*asked, **how))
    klimb.train(recipe, run=tmp_path / "run")
    assert len(loads) == 1 + copies
    memory = arithmetic(recipe)[-1]
    assert (f"optimizer, and {copies} x frozen, in" if copies else "with their optimizer in") in memory
