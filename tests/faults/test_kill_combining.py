"""A run whose rewards a bandit chooses, killed anywhere, ends as the unbroken one, the bandit's state included."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.faults.runs import SETTINGS, content
from tests.faults.test_kill import Child, kill

KILLS = int(os.environ.get("KLIMB_COMBINING_KILLS", "20"))
LASER: dict[str, Any] = SETTINGS | {
    "rewards": [
        {"type": "format", "name": "digit", "pattern": ".*[0-9].*"},
        {"type": "format", "name": "letter", "pattern": ".*[A-Za-z].*"},
        {"type": "length", "name": "judge", "weight": 0, "most": 4},
        {"type": "exact", "weight": 0},
    ],
    "combining": {"type": "selected", "judge": "judge", "share": 0.5, "gain": {"type": "held_out"}},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("laser") / "run"
    child = Child(path, LASER)
    assert child.stages()[-1][0] == "finished"
    assert child.wait() == 0
    found = content(path)
    assert "checkpoints/step-000008/combining.safetensors" in found
    assert sum("bandit/gain" in line for line in found["metrics.jsonl"]) > 3
    return found


def ends_alike(path: Path, whole: dict[str, Any]) -> bool:
    child = Child(path, LASER)
    child.stages()
    assert child.wait() == 0
    ended = content(path)
    return [name for name in whole if ended.get(name) != whole[name]] == [] and ended.keys() == whole.keys()


@pytest.mark.parametrize("moment", [("train", 9), ("save", 7)])
def test_a_run_with_a_bandit_killed_in_a_stage_ends_as_the_unbroken_one(
    moment: tuple[str, int], tmp_path: Path, whole: dict[str, Any]
) -> None:
    assert kill(tmp_path / "run", moment, 0.0, LASER) != "ended before the kill"
    assert ends_alike(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(KILLS))
def test_a_run_with_a_bandit_killed_at_a_random_moment_ends_as_the_unbroken_one(
    case: int, tmp_path: Path, whole: dict[str, Any]
) -> None:
    dice = random.Random(case)
    stage = dice.choice(("sample", "score", "train", "save", "optimize"))
    where = kill(tmp_path / "run", (stage, dice.randint(1, 7)), dice.random() * 0.03, LASER)
    assert where != "ended before the kill"
    assert ends_alike(tmp_path / "run", whole)
