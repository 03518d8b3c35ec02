"""The recipes that learn from a log do what their headers say, and the settings that do not go with it are refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

import klimb
from klimb import rollouts
from klimb.cli.arithmetic import arithmetic
from klimb.errors import DataError, RunError, SettingsError

OBJECTIVES = [
    *({"type": "rpg", "divergence": d, "form": f} for d in ("fkl", "rkl", "ufkl", "urkl", "jeffreys")
      for f in ("differentiable", "reinforce")),
    {"type": "ppo"}, {"type": "reinforce"}, {"type": "cispo"}, {"type": "topr"},
]  # fmt: skip
QUICK = ("rpg-urkl-reinforce", "topr")
"""Of these, those that `make test` takes steps with."""


@pytest.fixture(scope="module")
def log(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tiny model says before it has learned anything."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("log") / "run"
    words = ("optimizer.lr=0", "training.steps=40", "evaluation.start=false", "evaluation.end=false")
    klimb.train(klimb.load_recipe(root / "recipes/tiny.yaml", *words), run=path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-replay", "tiny-topr"])
def test_a_tiny_model_learns_from_a_log_alone(name: str, root: Path, log: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    started = time.process_time()
    recipe = klimb.load_recipe(root / f"recipes/{name}.yaml", f"source.logs={log}")
    result = klimb.train(recipe, run=tmp_path / "run")
    spent = time.process_time() - started
    assert spent < 40, f"{spent:.0f} s of one core"
    assert result.before["eval/accuracy"] < 0.1
    assert result.after["eval/accuracy"] > 0.5
    drawn = rollouts.read(tmp_path / "run/rollouts/step-000009.parquet")
    assert {one.age for one in drawn} == {9}, "nothing is sampled"
    with pytest.raises(DataError, match="was replayed there from another log"):
        klimb.train(klimb.load_recipe(root / f"recipes/{name}.yaml", f"source.logs={tmp_path / 'run'}"))


@pytest.mark.parametrize("objective", [
    pytest.param(one, id=name, marks=() if name in QUICK else pytest.mark.slow)
    for one in OBJECTIVES for name in ["-".join(one.values())]
])  # fmt: skip
def test_every_form_takes_steps_from_a_log(objective: dict[str, Any], root: Path, log: Path, tmp_path: Path) -> None:
    words = (f"source.logs={log}", "training.steps=3", "evaluation.problems=8", "source.prompts=8", "source.epochs=2")
    shown = "{" + ", ".join(f"{key}: {value}" for key, value in objective.items()) + "}"
    recipe = klimb.load_recipe(root / "recipes/tiny-replay.yaml", *words, f"objective={shown}")
    klimb.train(recipe, run=tmp_path / "run")
    line = klimb.rundir.RunDir.open(tmp_path / "run").read_metrics()[-1]
    assert 0 < line["replay/effective"] <= 1
    assert line["replay/age"] == 3.0 and line["tokens/sampled"] == 0.0
    assert not {"reward/mean", "reward/exact", "policy/gap"} & set(line), "nothing fresh, so nothing of it"


def test_supervised_learning_on_the_successes_of_a_log(root: Path, log: Path, tmp_path: Path) -> None:
    source = f"source={{type: successes, logs: {log}, prompts: 16}}"
    words = (source, "objective={type: sft}", "training.steps=40", "evaluation.every=40")
    result = klimb.train(klimb.load_recipe(root / "recipes/tiny-replay.yaml", *words), run=tmp_path / "run")
    assert result.after["eval/accuracy"] > result.before["eval/accuracy"] + 0.1


REFUSED = {
    "no correction beside the trainer": (
        ("source.old=trainer",), "which takes them for this policy's own"),
    "a weight twice": (("training.correction.type=truncate",), "the objective's own ratio is that weight already"),
    "a policy of one answer": (("sampling.temperature=0.0",), "a policy that says one answer alone"),
    "an unweighted kl": (
        ("objective={type: grpo, beta: 0.1}",), "an unweighted k2 or k3 has the gradient of neither KL"),
    "supervised on groups": (("objective={type: sft}",), "sft reads answers"),
    "weighted successes": (
        ("source={type: successes, logs: x}", "objective={type: sft}", "training.correction.type=truncate"),
        "which learns from a log's answers as they are"),
    "truncated samples in a buffer": (("source={type: hybrid}", "sampling.top_p=0.9"), "without an importance weight"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_do_not_go_with_replay_are_refused_before_any_work(name: str, root: Path) -> None:
    words, said = REFUSED[name]
    with pytest.raises(SettingsError) as caught:
        klimb.load_recipe(root / "recipes/tiny-replay.yaml", *words)
    assert said in str(caught.value)


def test_the_trainers_policy_and_a_correction_go_together(root: Path, log: Path, tmp_path: Path) -> None:
    correction = "training.correction={type: truncate, level: sequence}"
    words = (f"source.logs={log}", "source.old=trainer", correction, "training.steps=3")
    result = klimb.train(klimb.load_recipe(root / "recipes/tiny-replay.yaml", *words), run=tmp_path / "run")
    line = klimb.rundir.RunDir.open(result.path).read_metrics()[-1]
    assert line["replay/gap"] > 0


def test_a_dry_run_tells_replayed_answers_from_sampled_ones(root: Path, log: Path) -> None:
    def said(*words: str) -> str:
        recipe = klimb.load_recipe(root / "recipes/tiny-replay.yaml", f"source.logs={log}", *words)
        return "\n".join(arithmetic(recipe))

    alone = said()
    assert "2,400 of 2,400 groups of the run are replayed, 0 sampled" in alone
    assert "640 of 640 groups fit, with 10,240 answers" in alone
    assert "0 completions, at most 0 tokens sampled" in alone
    half = said("source={type: hybrid, prompts: 8, completions: 4, share: 0.5}", "training.steps=10")
    assert "40 of 80 groups of the run are replayed, 40 sampled" in half
    assert "160 completions, at most 160 tokens sampled" in half
    with pytest.raises(DataError, match="no such file"):
        said("source.logs=nowhere")


def test_a_run_does_not_go_on_with_another_log(root: Path, log: Path, tmp_path: Path) -> None:
    groups = rollouts.read(log / "rollouts/step-000001.parquet")
    for count in (16, 15):
        rollouts.write(tmp_path / "log.parquet", groups[:count], 1)
        words = (f"source.logs={tmp_path / 'log.parquet'}", "source.prompts=8", f"training.steps={20 - count}")
        recipe = klimb.load_recipe(root / "recipes/tiny-replay.yaml", *words)
        if count == 16:
            klimb.train(recipe, run=tmp_path / "run")
            continue
        with pytest.raises(RunError, match="the content of the data"):
            klimb.train(recipe, run=tmp_path / "run")
