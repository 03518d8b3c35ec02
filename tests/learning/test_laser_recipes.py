"""A bandit finds the reward that is worth following, and the model learns by it."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import klimb
from klimb.errors import SettingsError


def test_the_bandit_finds_the_right_reward_before_the_model_has_learned(root: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    words = ("training.steps=30", "evaluation.end=false", "evaluation.every=1000", "evaluation.problems=8")
    result = klimb.train(klimb.load_recipe(root / "recipes/tiny-laser.yaml", *words), run=tmp_path / "run")
    lines = klimb.rundir.RunDir.open(result.path).read_metrics()[1:]
    late = [line["bandit/share_right"] for line in lines[-10:]]
    assert sum(late) / 10 > 0.8
    assert all(line["outcome/asked"] <= 16 * 16 * 2 for line in lines), "one arm, and the judge at most"


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
