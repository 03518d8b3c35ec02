"""A run that mixes replayed and fresh answers, killed anywhere, ends as the unbroken one, its buffer included."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from klimb import rollouts
from tests.faults.runs import SETTINGS, content
from tests.faults.test_kill import Child, kill

KILLS = int(os.environ.get("KLIMB_REPLAY_KILLS", "20"))
HYBRID: dict[str, Any] = SETTINGS | {
    "source": {
        "type": "hybrid", "prompts": 4, "completions": 4, "share": 0.5, "capacity": 6, "stale": 4, "epochs": 2,
        "priority": "advantage", "floor": 0.1,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("hybrid") / "run"
    child = Child(path, HYBRID)
    assert child.stages()[-1][0] == "finished"
    assert child.wait() == 0
    ages = [one.age for step in range(2, 10) for one in rollouts.read(path / f"rollouts/step-{step:06d}.parquet")]
    assert ages.count(None) == 16 and len(ages) == 32, "half of each batch is replayed"
    assert {1, 2, 3} <= set(ages) - {None}, "out of several versions"
    found = content(path)
    assert "checkpoints/step-000008/buffer.safetensors" in found
    return found


def ends_alike(path: Path, whole: dict[str, Any]) -> bool:
    child = Child(path, HYBRID)
    child.stages()
    assert child.wait() == 0
    ended = content(path)
    return [name for name in whole if ended.get(name) != whole[name]] == [] and ended.keys() == whole.keys()


@pytest.mark.parametrize("moment", [("train", 9), ("save", 7)])
def test_a_hybrid_run_killed_in_a_stage_ends_as_the_unbroken_one(
    moment: tuple[str, int], tmp_path: Path, whole: dict[str, Any]
) -> None:
    assert kill(tmp_path / "run", moment, 0.0, HYBRID) != "ended before the kill"
    assert ends_alike(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(KILLS))
def test_a_hybrid_run_killed_at_a_random_moment_ends_as_the_unbroken_one(
    case: int, tmp_path: Path, whole: dict[str, Any]
) -> None:
    dice = random.Random(case)
    stage = dice.choice(("sample", "train", "save", "optimize", "reference"))
    where = kill(tmp_path / "run", (stage, dice.randint(1, 7)), dice.random() * 0.03, HYBRID)
    assert where != "ended before the kill"
    assert ends_alike(tmp_path / "run", whole)
