"""A user's own objective is held to the rules that hold for ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from klimb.config import resolve
from klimb.errors import SettingsError
from klimb.recipe import Recipe

MINE = """
from typing import Literal
from klimb.objectives import GRPO

class Mine(GRPO):
    type: Literal["mine"] = "mine"
"""


def recipe(path: Path, epochs: int = 1, **objective: Any) -> Recipe:
    (path / "mine.py").write_text(MINE)
    return resolve(
        Recipe,
        {
            "model": {"name": "tiny"},
            "data": {"type": "echo-digit"},
            "rewards": [{"type": "exact"}],
            "objective": {"type": "custom", "path": f"{path}/mine.py:Mine", **objective},
            "source": {"epochs": epochs},
        },
    )


def test_a_biased_combination_of_a_users_own_class_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    assert recipe(tmp_path, settings={"beta": 0.1}).situation.updates == 1
    with pytest.raises(SettingsError, match="the gradient of neither KL"):
        recipe(tmp_path, epochs=2, settings={"beta": 0.1})
    for allowed in ({"allow_bias": True, "settings": {"beta": 0.1}}, {"settings": {"beta": 0.1, "allow_bias": True}}):
        assert recipe(tmp_path, epochs=2, **allowed).situation.objective.allow_bias


def test_what_does_not_fit_together_inside_its_settings_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="settings"):
        recipe(tmp_path, settings={"kl": {"refresh": {"every": 3}}})


def test_two_temperatures_are_no_policy_that_ratios_could_weigh(tmp_path: Path) -> None:
    forked = {"forking": {"threshold": 0.5, "high": 1.2, "low": 0.8}}
    base = {"model": {"name": "tiny"}, "data": {"type": "echo-digit"}, "rewards": [{"type": "exact"}]}
    once = {**base, "objective": {"type": "grpo"}, "sampling": forked}
    assert resolve(Recipe, once).situation.truncates
    with pytest.raises(SettingsError, match="two temperatures"):
        resolve(Recipe, {**once, "source": {"epochs": 2}})
