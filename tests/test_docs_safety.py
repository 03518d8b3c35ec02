"""The page on safety: every block runs, and both sides of each run are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import test_docs
from tests.test_docs import blocks, command

folder = test_docs.folder


def test_every_block_of_the_page_on_safety_runs(root: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = ""
    for language, text in blocks(root / "docs/safety.md"):
        head, _, rest = text.partition("\n")
        if language == "sh":
            shown += "".join(command(line, capsys) for line in text.splitlines())
        else:
            (folder / head.removeprefix("# file: ")).write_text(rest, "utf-8")
    assert "6 examples of 6 prompts" in shown and "to beat     0.500: the commoner label" in shown
    lines = {
        name: json.loads((folder / f"runs/{name}/metrics.jsonl").read_text("utf-8").splitlines()[-1])
        for name in ("safety", "bbq")
    }
    sides = {name: {key for key in line if key.startswith("eval/accuracy_")} for name, line in lines.items()}
    assert {"eval/accuracy_ambig", "eval/accuracy_disambig_low"} <= sides["bbq"]
    assert sides["safety"] & {"eval/accuracy_safe", "eval/accuracy_unsafe"}
    assert "correct, ambig" in (folder / "runs/bbq/report.html").read_text("utf-8")


def test_a_run_does_not_go_on_with_another_model_of_words(root: Path, folder: Path) -> None:
    from klimb.config import load
    from klimb.recipe import Recipe

    recipe = load(Recipe, root / "recipes/safety.yaml")
    assert [str(file) for file in recipe.files()] == ["refusal.json", "harmless.json", "verdict.json"]


@pytest.mark.parametrize("name", ["safety", "laser"])
def test_a_recipe_is_judged_by_a_classifier_that_nothing_learns_from(name: str, root: Path) -> None:
    from klimb.recipe import load_recipe

    recipe = load_recipe(root / f"recipes/{name}.yaml")
    (verdict,) = [reward for reward in recipe.rewards if reward.name == recipe.evaluation.correct]
    others = [str(getattr(reward, "path", "")) for reward in recipe.rewards if reward is not verdict]
    assert verdict.weight == 0 and str(verdict.path) not in others  # type: ignore[union-attr]
