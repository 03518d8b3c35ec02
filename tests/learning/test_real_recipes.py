"""Every recipe for the 135M model trains it for three steps, with batches small enough for minutes in all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file

import klimb
from klimb.objectives import AnyObjective
from klimb.policy import pull
from klimb.recipe import Recipe
from klimb.rewards.words import WordModel
from klimb.rundir import RunDir
from tests.data.test_safety import XSTEST, item

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
VARIED = {"type": "format", "name": "without_e", "pattern": "[^e]*", "weight": 1}
"""Beside a recipe's own rewards: so short an answer is seldom right, and equal rewards teach nothing."""
ASKED = [item(number, number // 4, bool(number % 2)) for number in range(80)]
PAIRS = [
    {"prompt": f"Name a thing, number {k}.", "chosen": f"A tree, {k}.", "rejected": "I will not."} for k in range(40)
]


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


FILES = {"preferences": jsonl(PAIRS), "bbq": jsonl(ASKED), "xstest": XSTEST}


@pytest.fixture(scope="module")
def folder() -> Path:
    found = pull.resolve(MODEL)
    if found is None:
        pytest.skip(f"no {MODEL} in the cache: klimb pull {MODEL}")
    return found


def small(file: Path, here: Path, *more: str) -> Recipe:
    """The recipe, made small, on files that are here in place of those of one's own machine."""
    recipe, words = klimb.load_recipe(file), list(SMALL)
    if recipe.data.type in FILES:
        path = here / f"rows.{recipe.data.type}"
        path.write_text(FILES[recipe.data.type], "utf-8")
        words.append(f"data.path={path}")
    if recipe.source.scores:
        rewards = [*recipe.model_dump(mode="json")["rewards"], VARIED]
        words += ["source.completions=4", f"rewards={json.dumps(rewards)}"]
    else:
        words += ["data.rows=pairs", "data.held_out=null", "data.scores=null"]
        words += ["source.prompt_tokens=64", "source.answer_tokens=32"]
    for name in recipe.files():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(json.dumps(WordModel("labels", 0.1, {"a": 1.0}).record()), "utf-8")
    return klimb.load_recipe(file, *words, *more)


@pytest.fixture(scope="module")
def log(root: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the model says before it has learned anything."""
    here = tmp_path_factory.mktemp("log")
    result = klimb.train(small(root / "recipes/demo.yaml", here, "optimizer.lr=0"), run=here / "run")
    spare(result.path)
    return result.path


def spare(run: Path) -> None:
    """A checkpoint's files have two gigabytes."""
    for file in (run / "checkpoints").rglob("*.safetensors"):
        file.unlink()


def test_there_is_a_recipe_for_the_real_model_of_every_policy_objective(root: Path) -> None:
    kinds = {klimb.load_recipe(root / f"recipes/{name}.yaml").objective.type for name in RECIPES}
    every = {kind.model_fields["type"].default for kind in get_args(get_args(AnyObjective)[0])}
    assert every - {"custom"} | {"dpo", "hypo", "kto", "simpo", "ipo", "orpo", "cdpo"} <= kinds


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_the_real_model_for_three_steps(
    name: str, root: Path, folder: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = root / f"recipes/{name}.yaml"
    replayed = klimb.load_recipe(file).source.type == "replayed"
    more = [f"source.logs={request.getfixturevalue('log')}"] if replayed else []
    recipe = small(file, tmp_path, *more)
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
    assert (result.model.parent / "critic.safetensors").is_file() is recipe.objective.critic
    spare(result.path)
