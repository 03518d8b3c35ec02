"""The runs of the preference study: pairs split by prompt into three sides, a judge, and the arms of every seed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from replay_study import Run
from studies import ROOT, train

from klimb.config import dump
from klimb.data.base import Data
from klimb.recipe import load_recipe
from klimb.seeds import seed_of
from klimb.types import Prompt

SIDES = ("judge", "train", "held_out")
INITIAL = ("optimizer.lr=0", "training.steps=1")
"""The arm that learns nothing."""


def recipe_of(name: str) -> str:
    """The file of a recipe."""
    return str(ROOT / "recipes" / f"{name}.yaml")


def split(study: Mapping[str, Any], out: Path) -> dict[str, Path]:
    """Writes the pairs of each side; a prompt (of a dialogue, its first turn) is on one side only.

    Nothing is done where the same split is there; exits where `out` has another one.
    """
    files, marker = {side: out / f"{side}.jsonl" for side in SIDES}, out / "split.json"
    data, sizes = load_recipe(recipe_of(study["recipe"]), *study.get("words", ())).data, study["split"]
    wanted = json.dumps({"data": dump(data), "split": sizes}, sort_keys=True)
    if marker.exists() or any(out.glob("*/study.json")):
        same = marker.exists() and marker.read_text("utf-8") == wanted
        return files if same else sys.exit(f"{out} has the pairs of another split: another --out")
    asked = _pairs(data, sizes)
    keys = sorted(asked, key=lambda key: seed_of("study", key))
    if len(keys) <= sizes["judge"] + sizes["held_out"]:
        sys.exit(f"{len(keys)} prompts are too few for a judge of {sizes['judge']} and {sizes['held_out']} held out")
    ends = (sizes["judge"], len(keys) - sizes["held_out"])
    for side, mine in zip(SIDES, (keys[: ends[0]], keys[ends[0] : ends[1]], keys[ends[1] :]), strict=True):
        files[side].write_text("".join(json.dumps(row) + "\n" for key in mine for row in asked[key]), "utf-8")
    marker.write_text(wanted, "utf-8")
    return files


def _pairs(data: Data, sizes: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
    """The pairs that are short enough, by what their prompts are told apart by."""
    problems, asked = data.open(), dict[str, list[dict[str, Any]]]()
    for prompt in (*problems.train, *problems.held_out):
        good, bad = (reply.text for reply in problems.given[prompt.id])
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt.messages]
        if _size(prompt) <= sizes.get("prompt", 10**9) and max(len(good), len(bad)) <= sizes.get("answer", 10**9):
            row = {"prompt": turns or prompt.text, "chosen": good, "rejected": bad}
            key = turns[:1] if getattr(data, "rows", "") == "hh" else row["prompt"]
            asked.setdefault(json.dumps(key), []).append(row)
    return asked


def _size(prompt: Prompt) -> int:
    return sum(len(turn.content) for turn in prompt.messages) + len(prompt.text or "")


def runs_of(study: Mapping[str, Any], files: Mapping[str, Path], asked: argparse.Namespace) -> tuple[Run, list[Run]]:
    """The judge's run, and those of the initial model and of every arm."""
    names = asked.arms.split(",") if asked.arms else list(study["arms"])
    if unknown := sorted(set(names) - set(study["arms"])):
        sys.exit(f"no arm {', '.join(unknown)} in the study; there are {', '.join(study['arms'])}")
    judge = [*study.get("judge", ()), *([f"training.steps={asked.judge_steps}"] if asked.judge_steps else [])]
    steps = [f"training.steps={asked.steps}"] if asked.steps else []
    last = ["evaluation.start=false", "evaluation.every=1000000", "checkpoints.every=1000000", "checkpoints.keep=1"]
    common = [word for word in study.get("words", ()) if not word.startswith("data.")]
    arms = {"initial": (*study["arms"][names[0]], *INITIAL)} | {name: study["arms"][name] for name in names}
    return (
        Run("judge", "model", 0, recipe_of(study["judge_recipe"]), (_data(files, "judge"), *judge)),
        [
            Run("arm", name, seed, recipe_of(study["recipe"]), (*common, _data(files, "train"), *steps, *last, *words))
            for seed in range(asked.seeds)
            for name, words in ((name, (*words, *asked.words)) for name, words in arms.items())
        ],
    )


def _data(files: Mapping[str, Path], side: str) -> str:
    """The settings of a side's data: prompts that were texts stay texts."""
    with files[side].open("r", encoding="utf-8") as file:
        form = "text" if isinstance(json.loads(next(file))["prompt"], str) else "chat"
    return f"data={{type: preferences, form: {form}, path: {files[side]}, held_out: {files['held_out']}}}"


def trained(run: Run, out: Path, threads: int, keep: bool) -> str:
    """Trains a run that is not done, and says how it ended; its weights are removed unless they are to be kept."""
    marker, words = run.path(out) / "study.json", json.dumps([run.recipe, *run.words])
    if marker.exists():
        same = marker.read_text("utf-8") == words
        return f"{run.path(out).name}: done" if same else sys.exit(f"{run.path(out)} has other settings: another --out")
    line = train(run.command(out), run.path(out), threads)
    if line.endswith(": done"):
        marker.write_text(words, "utf-8")
        for file in (run.path(out) / "checkpoints").rglob("*.safetensors") if not keep else ():
            file.unlink()
    return line
