"""Every recipe for the 135M model trains it for three steps, with batches small enough for minutes in all."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import klimb
from klimb.policy import pull
from klimb.recipe import Recipe
from klimb.rundir import RunDir

MODEL = "smollm2-135m"
RECIPES = sorted(
    path.stem
    for path in (Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml")
    if f"name: {MODEL}" in path.read_text("utf-8")
)
SMALL = (
    "training.steps=3", "evaluation.every=3", "evaluation.problems=2", "checkpoints.every=3", "sampling.max_tokens=8",
    "source.prompts=4", "optimizer.warmup=0", "optimizer.lr=1e-4", "alerts=[]",
)  # fmt: skip
MIXED = '[{type: numeric}, {type: format, pattern: "[^e]*", weight: 1}]'
"""In place of a recipe's own rewards: so short an answer is seldom right, and equal rewards teach nothing."""


@pytest.fixture(scope="module")
def folder() -> Path:
    found = pull.resolve(MODEL)
    if found is None:
        pytest.skip(f"no {MODEL} in the cache: klimb pull {MODEL}")
    return found


def words(recipe: Recipe, path: Path) -> list[str]:
    """What makes a recipe small; a recipe on a preference file reads one that is here."""
    if recipe.source.scores:
        return [*SMALL, "source.completions=4", f"rewards={MIXED}"]
    rows = [
        {"prompt": f"Name a thing, number {k}.", "chosen": f"A tree, {k}.", "rejected": "I will not."}
        for k in range(40)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return [*SMALL, f"data={{type: preferences, path: {path}}}", "source.prompt_tokens=64", "source.answer_tokens=32"]


def test_there_is_a_recipe_for_the_real_model_of_every_policy_objective(root: Path) -> None:
    kinds = {klimb.load_recipe(root / f"recipes/{name}.yaml").objective.type for name in RECIPES}
    assert {
        "reinforce", "rloo", "grpo", "dr_grpo", "dapo", "gspo", "gspo_token", "cispo", "reinforce_pp",
        "reinforce_pp_baseline", "rpg", "dpo", "hypo", "kto", "simpo",
    } <= kinds  # fmt: skip


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_the_real_model_for_three_steps(name: str, root: Path, folder: Path, tmp_path: Path) -> None:
    file = root / f"recipes/{name}.yaml"
    recipe = klimb.load_recipe(file, *words(klimb.load_recipe(file), tmp_path / "pairs.jsonl"))
    assert recipe.faults() == []
    result = klimb.train(recipe, run=tmp_path / "run")
    lines = RunDir.open(tmp_path / "run").read_metrics()[1:]
    assert [line["step"] for line in lines] == [1, 2, 3] and result.step == 3
    norms = [float(line["optim/grad_norm"]) for line in lines if "optim/grad_norm" in line]
    assert norms and all(math.isfinite(norm) and norm > 0 for norm in norms)
    before, after = load_file(folder / "model.safetensors"), load_file(result.model / "model.safetensors")
    moved = [key for key in before if not torch.equal(before[key].float(), after[key].float())]
    assert len(moved) > len(before) // 2
    assert all(torch.isfinite(value.float()).all() for value in after.values())
    for file in (tmp_path / "run/checkpoints").rglob("*.safetensors"):
        file.unlink()  # two gigabytes each
