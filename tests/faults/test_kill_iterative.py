"""A run in rounds, whose reference is the policy at a round's start, killed within a round ends as the unbroken one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.runs import SETTINGS, content
from tests.faults.test_kill import Child, kill

ROUNDS: dict[str, Any] = SETTINGS | {
    "rewards": [
        {"type": "format", "name": "digit", "pattern": ".*[0-9].*"},
        {"type": "format", "name": "letter", "pattern": ".*[A-Za-z].*"},
    ],
    "combining": {"type": "selected_paper"},
    "objective": {"type": "dpo", "nll": 0.2},
    "source": {
        "type": "iterative_pairs", "prompts": 4, "completions": 8, "batches": 2, "passes": 2, "reference": "round",
        "pairing": {"type": "random", "count": 4},
    },
    "training": {"steps": 9, "micro_tokens": 256},
    "evaluation": {"every": 9, "problems": 8, "correct": "digit"},
    "checkpoints": {"every": 3, "keep": 3},
}  # fmt: skip


@pytest.mark.parametrize("moment", [("train", 6), pytest.param(("train", 8), marks=pytest.mark.slow)])
def test_a_run_in_rounds_killed_in_its_second_round_ends_as_the_unbroken_one(
    moment: tuple[str, int], tmp_path: Path
) -> None:
    child = Child(tmp_path / "whole", ROUNDS)
    assert child.stages()[-1][0] == "finished" and child.wait() == 0
    whole = content(tmp_path / "whole")
    lines: Any = whole["metrics.jsonl"]
    assert [line["policy/reference_age"] for line in lines[1:]] == [1.0, 2.0, 3.0, 4.0] * 2 + [1.0]
    assert sum(line.get("optim/grad_norm", 0.0) > 0 for line in lines) >= 8, "it learns"
    assert ["bandit/share_digit" in line for line in lines[1:]] == [True, True, False, False] * 2 + [True]
    assert sum("bandit/gain" in line for line in lines) == 5, "from the loss of each round's first pass"
    assert kill(tmp_path / "run", moment, 0.0, ROUNDS) != "ended before the kill"
    child = Child(tmp_path / "run", ROUNDS)
    child.stages()
    assert child.wait() == 0
    ended = content(tmp_path / "run")
    assert ended.keys() == whole.keys() and [name for name in whole if ended[name] != whole[name]] == []
