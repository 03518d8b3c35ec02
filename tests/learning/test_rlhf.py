"""Three stages of RLHF: supervised learning, a reward model, PPO against it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import klimb
from klimb.policy import pull
from klimb.rundir import RunDir


@pytest.mark.slow
def test_the_three_stages_raise_the_reward_models_score_in_three_of_three_seeds(root: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    began, model = (
        klimb.train(klimb.load_recipe(root / f"recipes/{name}.yaml"), run=tmp_path / name).model
        for name in ("tiny-sft", "tiny-reward-model")
    )
    words = (f"model.name={began}", f"rewards.0.path={model}")
    for seed in range(3):
        recipe = klimb.load_recipe(root / "recipes/tiny-rlhf.yaml", *words, f"seed={seed}")
        result = klimb.train(recipe, run=tmp_path / f"rlhf-{seed}")
        assert result.after["eval/score_low"] > result.before["eval/score"], f"seed {seed}"
        lines = RunDir.open(tmp_path / f"rlhf-{seed}").read_metrics()[1:]
        assert all({"value/loss", "value/explained_variance", "policy/kl_ref"} <= set(line) for line in lines)
        truth = [line["reward/exact"] for line in lines]
        assert sum(truth[-5:]) > sum(truth[:5]), "what was not trained on rises, too"


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(600)
def test_the_three_stages_run_on_the_real_model_for_three_steps_each(root: Path, tmp_path: Path) -> None:
    if pull.resolve("smollm2-135m") is None:
        pytest.skip("no smollm2-135m in the cache: klimb pull smollm2-135m")
    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"Name a thing, number {k}.", "chosen": f"A tree, {k}.", "rejected": "I will not."}
        for k in range(40)
    ]
    pairs.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    small = (
        f"data={{type: preferences, path: {pairs}}}", "training.steps=3", "evaluation.every=3", "evaluation.problems=4",
        "checkpoints.every=3", "sampling.max_tokens=8", "source.prompts=4", "optimizer.warmup=0", "optimizer.lr=1e-4",
    )  # fmt: skip

    def stage(name: str, *words: str) -> klimb.RunResult:
        return klimb.train(klimb.load_recipe(root / f"recipes/{name}.yaml", *small, *words), run=tmp_path / name)

    began, judge = stage("sft-hh").model, stage("reward-model-hh").model
    result = stage("ppo-hh", f"model.name={began}", f"rewards.0.path={judge}")
    lines = RunDir.open(result.path).read_metrics()
    assert {"eval/score", "eval/score_low", "eval/score_high"} <= set(result.before) & set(result.after)
    assert all(line["outcome/scored"] == 1.0 and line["value/loss"] > 0 for line in lines[1:])
    assert lines[-1]["policy/kl_ref"] > 0
