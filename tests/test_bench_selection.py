"""The study of selectors on the tiny model, in a few steps: it trains what is missing and reads what is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from klimb.config import apply_words, dump, resolve
from klimb.recipe import Recipe, load_recipe
from klimb.selection import Bottom, Every, Random, Top

ARMS = {"all": Every(), "top-20": Top(share=0.2), "random-20": Random(share=0.2), "bottom-20": Bottom(share=0.2)}


def test_the_sweep_is_the_four_controls_at_the_same_share(root: Path) -> None:
    study = yaml.safe_load((root / "bench/selection-words.yaml").read_text("utf-8"))
    settings = dump(load_recipe(root / "recipes" / f"{study['recipe']}.yaml", *study["words"]))
    found = {
        name: resolve(Recipe, apply_words(settings, words, Recipe)).selector for name, words in study["arms"].items()
    }
    assert found == ARMS


@pytest.mark.slow
def test_the_study_of_selectors_runs_goes_on_and_prints_its_table(root: Path, tmp_path: Path) -> None:
    study = yaml.safe_load((root / "bench/selection-words.yaml").read_text("utf-8"))
    words = ["evaluation.problems=16", "evaluation.every=2", "evaluation.start=false", "checkpoints.every=2"]
    study |= {"recipe": "tiny-forking", "words": ["model={name: tiny}", *words]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study), "utf-8")
    command = [sys.executable, "bench/selection_study.py", f"{tmp_path}/study.yaml", "--seeds", "2", "training.steps=2"]
    command += ["--arms", "all,top-20", "--out", f"{tmp_path}/out"]
    first = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    names = ("start-0", "all-0", "top-20-0", "all-1", "top-20-1")
    assert all(f"{name}: done" in first for name in names)
    model = str(tmp_path / "out/start-0/checkpoints/step-000002/model")
    for name in names[1:]:
        config = json.loads((tmp_path / "out" / name / "config.json").read_text("utf-8"))
        assert config["settings"]["model"]["name"] == model, "every arm goes on from the policy of the first run"
    again = subprocess.run([*command, "--table"], cwd=root, capture_output=True, text=True, check=True).stdout
    rows = [line for line in again.splitlines() if line.startswith(("| all |", "| top-20 |"))]
    assert len(rows) == 2 and all(" of 32 |" in line and line in first for line in rows)
    assert "| 1.000 |" in rows[0] and "| 1.000 |" not in rows[1]
    assert "less `all`" in again and " to " in rows[1].split("|")[4] and not rows[0].split("|")[4].strip()
