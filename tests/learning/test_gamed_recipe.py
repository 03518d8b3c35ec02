"""The recipe whose reward turns: every sign of a gamed reward shows, at the place where it should."""

from __future__ import annotations

from pathlib import Path

import pytest

import klimb
from klimb.reranking import best_of
from klimb.rundir import RunDir


@pytest.mark.slow
def test_the_signs_of_a_gamed_reward_show(root: Path, tmp_path: Path) -> None:
    recipe = klimb.load_recipe(root / "recipes/tiny-gamed.yaml", "training.steps=60")
    result = klimb.train(recipe, run=tmp_path / "run")
    run = RunDir.open(result.path)
    lines = run.read_metrics()
    assert lines[30]["hacking/with_judge"] == pytest.approx(1.0) and lines[60]["hacking/with_judge"] < 0
    (alert,) = [event for event in run.read_events() if event["kind"] == "alert"]
    assert alert["rule"] == "hacked" and 45 <= alert["step"] <= 60
    assert "The reward is being gamed." in result.report.read_text("utf-8")
    early = recipe.model_copy(update={"model": recipe.model.at(run.checkpoint(40) / "model")})
    rows = {row.n: row for row in best_of(early, 16, step=40).rows}
    assert rows[16].reward > rows[4].reward and rows[16].correct < rows[4].correct < rows[16].possible
