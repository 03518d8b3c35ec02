"""The studies of LASeR: every arm loads, the verdict is nobody's, and the table counts what was paid for."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from klimb import rollouts
from klimb.config import apply_words, dump, resolve
from klimb.recipe import Recipe, load_recipe
from klimb.rewards.combining.selected import Selected
from klimb.rundir import RunDir
from klimb.types import Completion, Finish, Group, Prompt, Rollout, Score, Transform


def arms_of(root: Path, study: str) -> dict[str, Recipe]:
    """Every arm of a study in bench/, as the study runs it."""
    asked: dict[str, Any] = yaml.safe_load((root / f"bench/{study}.yaml").read_text("utf-8"))
    settings = dump(load_recipe(root / "recipes" / f"{asked['recipe']}.yaml", *asked["words"]))
    return {name: resolve(Recipe, apply_words(settings, words, Recipe)) for name, words in asked["arms"].items()}


@pytest.mark.parametrize(("study", "count"), [("laser-tiny", 17), ("laser-refusals", 5)])
def test_what_says_what_is_correct_is_no_arm_and_no_judge_of_a_gain(study: str, count: int, root: Path) -> None:
    arms = arms_of(root, study)
    assert len(arms) == count and next(iter(arms)) == "laser"
    for name, recipe in arms.items():
        weights = {reward.name: reward.weight for reward in recipe.rewards}
        assert recipe.evaluation.correct == "final" and weights["final"] == 0, name
        judge = getattr(recipe.combining, "judge", "")
        assert judge in ("", "gain") and (name.partition("-n")[0] in ("laser", "judged-single")) == bool(judge), name


def test_the_study_of_refusals_says_why_its_gate_could_not_run_and_ends_as_it_did(root: Path, tmp_path: Path) -> None:
    said = '#!/bin/sh\ncase "$*" in *run=runs/laser/gate*) echo "the gate is shut"; exit 3;; esac\n'
    for name, text in (("klimb", said), ("python", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o700)
    command, place = (
        ["sh", str(root / "bench/laser_refusals.sh"), "data"],
        f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
    )
    done = subprocess.run(command, cwd=tmp_path, env={"PATH": place}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (3, "the gate is shut")


def test_the_run_that_comes_first_in_the_tiny_study_is_supervised(root: Path) -> None:
    study = yaml.safe_load((root / "bench/laser-tiny.yaml").read_text("utf-8"))
    first = load_recipe(root / "recipes" / f"{study['recipe']}.yaml", *study["words"], *study["start"])
    assert (first.objective.type, first.source.type, first.data.type) == ("sft", "answers", "echo-pairs")


def test_all_arms_of_the_tiny_study_learn_by_one_objective_and_the_paper_s_gain_is_of_its_loss(root: Path) -> None:
    arms = arms_of(root, "laser-tiny")
    assert {(one.objective.type, one.source.type) for one in arms.values()} == {("dpo", "online_pairs")}
    paper = arms["laser-paper"].combining
    assert isinstance(paper, Selected) and paper.reads_loss


@pytest.mark.slow
def test_the_study_runs_goes_on_and_prints_its_table(root: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "bench/laser_study.py", "bench/laser-tiny.yaml", "--seeds", "2", "--arms", "laser,low,mean",
        "--out", f"{tmp_path}/out", "--threads", "1", "--jobs", "1", "training.steps=3", "evaluation.problems=8",
    ]  # fmt: skip
    first = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert all(f"{name}-{seed}: done" in first for name in ("laser", "low", "mean") for seed in (0, 1))
    again = subprocess.run([*command, "--table"], cwd=root, capture_output=True, text=True, check=True).stdout
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in again.splitlines() if "|" in line]
    head, _, *rows = lines[:5]
    assert [row[0] for row in rows] == ["laser", "low", "mean"] and {len(row) for row in rows} == {len(head)}
    cost = {row[0]: (row[head.index("scores")], row[head.index("of these the judge's")]) for row in rows}
    assert cost["low"] == ("768", "0") and cost["mean"] == ("3072", "0"), "3 steps of 256 answers, by 1 and by 4 arms"
    judged = Counter[str]()
    for seed in (0, 1):
        for file in (RunDir.open(tmp_path / f"out/laser-{seed}").rollouts).iterdir():
            judged.update(n for g in rollouts.read(file) for r in g.rollouts for n in r.scores)
    assert cost["laser"] == (f"{768 + judged['gain'] / 2:.0f}", f"{judged['gain'] / 2:.0f}") and judged["gain"] > 0
    assert all(line in first for line in again.splitlines() if line.startswith("|"))
    assert rows[0][head.index("less `laser`, by prompt")] == "" != rows[1][head.index("less `laser`, by prompt")]
    choices = {row[0]: list(map(int, row[2:])) for row in lines[7:]}
    assert lines[5][:3] == ["arm", "side", "prompts of the last third"] and set(choices) == {"laser", "low"}
    assert choices["low"][1] == choices["low"][0] == sum(choices["laser"][1:]) > 0 == sum(choices["low"][2:])


def test_what_is_held_out_is_in_nothing_that_the_refusals_are_learned_from(
    root: Path, shared_data: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "bench/laser_prompts.py", str(shared_data), str(tmp_path), "--first", "5"]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    found = {
        name: [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text("utf-8").splitlines()]
        for name in ("train", "held_out", "answers")
    }
    sides = {name: Counter(row["label"] for row in found[name]) for name in ("train", "held_out")}
    assert all(side["safe"] == side["unsafe"] > 40 for side in sides.values())
    held = {row["prompt"] for row in found["held_out"]}
    assert not held & {row["prompt"] for row in found["train"] + found["answers"]}
    assert {len(row["completion"].split()) for row in found["answers"]} <= {1, 2, 3, 4, 5}


def test_the_gate_shows_a_judge_that_never_says_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root / "bench"))
    gate = importlib.import_module("laser_gate")
    one = Completion((1,), (), "a", Finish.EOS)
    scores = [{"arm": Score.of(a), "judge": Score.of(j)} for a, j in ((0.0, 0.4), (1.0, 0.45), (2.0, 0.49))]
    rollouts = tuple(Rollout(one, 0, k, scores=given) for k, given in enumerate(scores))
    group = Group(Prompt("p", text="?", metadata={"label": "unsafe"}), rollouts, Transform())
    lines = gate.table([group], ["arm", "judge"], ["judge"], {"by": "label", "threshold": 0.5}).splitlines()
    assert "| all | 1 | arm | 100% | 67% | +1.00 |" in lines and "| unsafe | 1 | judge | 100% | 0% | +1.00 |" in lines
