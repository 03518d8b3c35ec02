"""The study of replay on the tiny model, in a few steps: it trains what is missing, reads what is there, and draws."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml


@pytest.mark.slow
def test_the_study_of_replay_runs_goes_on_and_prints_its_tables(root: Path, tmp_path: Path) -> None:
    study = yaml.safe_load((root / "bench/replay-tiny.yaml").read_text("utf-8"))
    assert len(study["offline"]) == 17 and set(study["online"]) == {"replay-0", "replay-50"}
    command = [
        sys.executable, "bench/replay_study.py", "bench/replay-tiny.yaml", "training.steps=4", "evaluation.every=2",
        "--seeds", "1", "--log-steps", "3", "--arms", "ppo,replay-50", "--out", f"{tmp_path}/out", "--threads", "1",
        "--plot", f"{tmp_path}/a.svg",
    ]  # fmt: skip
    first = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    for name in ("log-initial-0", "offline-ppo-0", "online-replay-50-0"):
        assert f"{name}: done" in first
    again = subprocess.run([*command, "--table"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert "| offline | seeds | step 0 | step 2 | step 4 | effective | clipped | seconds |" in again
    assert "| ppo | 1 |" in again and "| replay-50 | 1 |" in again
    tables, spent = again.rsplit("\n\n", 1)
    assert tables in first, "the same tables from what is there"
    assert "0.0 CPU minutes" in spent and "0.0 CPU minutes" not in first, "of this call"
    assert (tmp_path / "a.svg").stat().st_size > 1000
