"""The study of replay on the tiny model, in a few steps: it trains what is missing, reads what is there, and draws."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from klimb.recipe import Recipe, load_recipe
from klimb.sources.buffer import Replays
from klimb.training.base import NoCorrection


def arms(root: Path, name: str) -> dict[str, Recipe]:
    """Every arm of a study as a recipe, which is checked when it is read."""
    study = yaml.safe_load((root / f"bench/replay-{name}.yaml").read_text("utf-8"))
    recipe, some = root / "recipes" / f"{study['recipe']}.yaml", {**study["offline"], **study["online"]}
    return {arm: load_recipe(recipe, *study["words"], *words) for arm, words in some.items()}


@pytest.mark.parametrize("name", ["demo", "tiny"])
def test_every_arm_of_the_studies_is_sound_and_watched_and_weighs_what_others_drew_once(root: Path, name: str) -> None:
    for arm, recipe in arms(root, name).items():
        source, corrected = recipe.source, not isinstance(recipe.training.correction, NoCorrection)
        assert [alert.type for alert in recipe.alerts] == ["unbelievable"], arm
        assert isinstance(source, Replays) and corrected is (source.old == "trainer"), arm


def test_the_offline_arms_of_the_demo_are_on_the_same_terms(root: Path) -> None:
    found = {arm: recipe for arm, recipe in arms(root, "demo").items() if recipe.source.type != "hybrid"}
    assert set(found) == {"rpg-ufkl", "rpg-urkl", "ppo", "reinforce", "sft-successes"}
    same = {(one.optimizer.lr, one.training.steps, one.source.prompts, one.source.epochs) for one in found.values()}
    assert len(same) == 1
    assert all(getattr(found[arm].objective, "clip", "") == "none" for arm in ("rpg-ufkl", "rpg-urkl"))
    assert getattr(found["ppo"].source, "old", "") == "trainer", "its clip is not around mu"


def test_the_table_has_the_effective_size_and_the_clip_of_the_last_four_steps(root: Path, tmp_path: Path) -> None:
    def write(run: str, *lines: dict[str, float]) -> None:
        (tmp_path / run).mkdir()
        text = "".join(json.dumps({"step": step, "time/step": 1.0, **line}) + "\n" for step, line in enumerate(lines))
        (tmp_path / run / "metrics.jsonl").write_text(text, "utf-8")

    sizes = [
        {"replay/effective": 0.9 - 0.1 * step, "policy/effective": 1.0, "policy/clip_share": 0.1} for step in range(6)
    ]
    write("log-initial-0", {"eval/accuracy": 0.125})
    write("offline-ppo-0", {}, *sizes, {"eval/accuracy": 0.5})
    write("offline-sft-successes-0", {}, {"eval/accuracy": 0.25})
    command = [sys.executable, "bench/replay_study.py", "bench/replay-tiny.yaml", "--table", "--seeds", "1"]
    command += ["--arms", "ppo,sft-successes", "--out", str(tmp_path)]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert "| ppo | 1 | 12.5 |  | 50.0 | 0.55 | 0.10 | 7 |" in said
    assert "| sft-successes | 1 | 12.5 | 25.0 |  | none | none | not ended |" in said


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
