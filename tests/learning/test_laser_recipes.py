"""A bandit finds the reward that is worth following, and the model learns by it."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import klimb
from klimb.errors import SettingsError
from klimb.rewards.words import WordModel


def test_the_bandit_finds_the_right_reward_before_the_model_has_learned(root: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    words = ("training.steps=30", "evaluation.end=false", "evaluation.every=1000", "evaluation.problems=8")
    result = klimb.train(klimb.load_recipe(root / "recipes/tiny-laser.yaml", *words), run=tmp_path / "run")
    lines = klimb.rundir.RunDir.open(result.path).read_metrics()[1:]
    late = [line["bandit/share_right"] for line in lines[-10:]]
    assert sum(late) / 10 > 0.8
    assert all(line["outcome/asked"] <= 16 * 16 * 2 for line in lines), "one arm, and the judge at most"


@pytest.mark.slow
def test_the_recipe_of_the_real_model_chooses_among_four_sources_and_tells_both_sides(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["model.name=tiny", "source.prompts=2", "source.completions=4", "alerts=[]"]
    words += ["training.steps=2", "sampling.max_tokens=6", "evaluation.every=2"]
    recipe = klimb.load_recipe(root / "recipes/laser.yaml", *words)
    (tmp_path / "runs/laser").mkdir(parents=True)
    for name, firsts in (("train", "abc"), ("held_out", "de")):
        rows = [{"prompt": f"{one} {label}", "label": label} for one in firsts for label in ("safe", "unsafe")]
        (tmp_path / f"runs/laser/{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    for file in recipe.files():
        file.write_text(json.dumps(WordModel("labels", 0.1, {"a": 1.0}).record()), "utf-8")
    result = klimb.train(recipe, run="run")
    last = klimb.rundir.RunDir.open(result.path).read_metrics()[-1]
    arms = [reward.name for reward in recipe.rewards if reward.weight]
    assert arms == ["harmless", "helpful", "people", "friendly"]
    assert sum(last[f"bandit/share_{arm}"] for arm in arms) == 1.0 and last["outcome/asked"] == 8 * 3
    assert "eval/score" in last and {"eval/accuracy_safe", "eval/accuracy_unsafe"} <= set(last)


def whole(name: str, root: Path, tmp_path: Path) -> tuple[float, list[dict[str, float]]]:
    """The accuracy that a recipe ends with, in its time, and the share of each arm at each step."""
    torch.set_num_threads(1)
    started = time.process_time()
    result = klimb.train(klimb.load_recipe(root / f"recipes/{name}.yaml"), run=tmp_path / "run")
    assert time.process_time() - started < 40
    lines = klimb.rundir.RunDir.open(result.path).read_metrics()[1:]
    return result.after["eval/accuracy"], [
        {key: value for key, value in line.items() if key.startswith("bandit/share_")} for line in lines
    ]


@pytest.mark.slow
def test_with_a_judge_the_recipe_learns_in_its_time(root: Path, tmp_path: Path) -> None:
    accuracy, shares = whole("tiny-laser", root, tmp_path)
    assert accuracy >= 0.7
    assert all(sum(one.values()) == pytest.approx(1.0) for one in shares)


@pytest.mark.slow
def test_by_the_loss_alone_one_arm_a_step_is_chosen_and_digits_are_learned_but_not_which(
    root: Path, tmp_path: Path
) -> None:
    accuracy, shares = whole("tiny-laser-dpo", root, tmp_path)
    assert all(sorted(one.values()) == [0.0, 0.0, 1.0] for one in shares)
    assert sum(a != b for a, b in pairwise(shares)) >= 3, "it jumps between the arms"
    assert 0.1 < accuracy < 0.7, "a digit at random is right in a quarter, a letter never"


REFUSED = {
    "one arm": (("rewards=[{type: exact}]", "combining={type: selected}"), "choose among at least two rewards"),
    "a log": (("source={type: replayed, logs: x}",), "whose rewards are given"),
    "a buffer": (("source={type: hybrid}",), "what is replayed was scored by earlier choices"),
    "a loss that says nothing": (("combining={type: selected_paper}",), "zero, whatever was chosen"),
    "a stranger": (("combining={type: gated, gates: {safe: 0.5}}",), "combining.gates names reward 'safe'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_do_not_go_together_are_refused_before_any_work(name: str, root: Path) -> None:
    words, said = REFUSED[name]
    with pytest.raises(SettingsError) as caught:
        klimb.load_recipe(root / "recipes/tiny-laser.yaml", *words)
    assert said in str(caught.value)


@pytest.mark.slow
def test_in_the_rounds_of_the_paper_an_arm_is_chosen_for_each_batch(root: Path, tmp_path: Path) -> None:
    _, shares = whole("tiny-laser-rounds", root, tmp_path)
    assert len(shares) == 80 and all(sorted(one.values()) == [0.0, 0.0, 1.0] for one in shares)
