"""Preference recipes on the tiny model: what they learn, what HyPO keeps, and that a stopped run goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

import klimb
from klimb.batch import Batch
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.recipe import Recipe
from klimb.rundir import RunDir
from klimb.types import Completion, Finish, Group, Prompt, Rollout
from tests.faults.runs import content

SMALL: dict[str, Any] = {
    "model": {"name": "tiny", "tiny": {"hidden": 32}},
    "data": {"type": "echo-pairs", "train": 24},
    "objective": {"type": "dpo"},
    "source": {"type": "pairs", "prompts": 4},
    "sampling": {"max_tokens": 3},
    "optimizer": {"type": "adamw", "lr": 0.003},
    "training": {"steps": 8, "micro_tokens": 64},
    "evaluation": {"every": 4, "problems": 8},
    "checkpoints": {"every": 4, "keep": 3},
}


def in_time(root: Path, name: str, run: Path) -> klimb.RunResult:
    """Trains by a recipe as it is, in less than forty seconds of one core."""
    torch.set_num_threads(1)
    started = time.process_time()
    result = klimb.train(klimb.load_recipe(root / f"recipes/{name}.yaml"), run=run)
    assert time.process_time() - started < 40
    return result


MIXTURE = {"source": {"type": "mixture", "prompts": 4, "fresh": 2}}


def run(path: Path, **changes: Any) -> klimb.RunResult:
    return klimb.train(Recipe.model_validate(SMALL | changes), run=path)


def weights(result: klimb.RunResult) -> bytes:
    return (result.model / "model.safetensors").read_bytes()


def test_hypo_without_a_weight_trains_to_the_bits_of_dpo(tmp_path: Path) -> None:
    plain = run(tmp_path / "dpo")
    free = run(tmp_path / "free", objective={"type": "hypo", "kl_weight": 0.0}, **MIXTURE)
    held = run(tmp_path / "held", objective={"type": "hypo", "kl_weight": 0.5}, **MIXTURE)
    assert weights(plain) == weights(free) != weights(held)
    assert plain.before["eval/implicit_accuracy"] == 0.5 and plain.before["eval/kl"] == 0.0
    assert plain.after["eval/pairs"] == 8 and plain.before["eval/drift_chosen"] == 0.0
    drift = plain.after["eval/drift_chosen"] - plain.after["eval/drift_rejected"]
    assert drift == pytest.approx(plain.after["eval/implicit_gap"], rel=1e-5)


def test_hypo_by_exact_kls_begins_at_none_and_stays_near_also_with_several_updates_a_batch(tmp_path: Path) -> None:
    exact = {"type": "hypo", "kl_weight": 20.0, "estimator": "exact"}
    held = run(tmp_path, objective=exact, source={**MIXTURE["source"], "epochs": 2})
    told = [line["policy/kl_ref"] for line in RunDir.open(tmp_path).read_metrics() if "policy/kl_ref" in line]
    assert len(told) == 8 and 0 < told[0] < 1e-3, "half of the first step is at the reference itself"
    assert held.after["eval/kl"] < 0.01, "0.05 with no weight"


def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    settings = {"objective": {"type": "hypo", "kl_weight": 0.1}, **MIXTURE}
    whole = run(tmp_path / "whole", **settings)
    run(tmp_path / "parts", **settings, training={"steps": 4, "micro_tokens": 64})
    parts = run(tmp_path / "parts", **settings)
    assert weights(whole) == weights(parts)
    one, two = content(tmp_path / "whole"), content(tmp_path / "parts")
    assert {k: v for k, v in one.items() if "rollouts" in k} == {k: v for k, v in two.items() if "rollouts" in k}


def test_a_fork_remembers_nothing_of_what_it_came_from(tmp_path: Path) -> None:
    parts = {"evaluation": {"every": 9, "problems": 1, "start": False}, "checkpoints": {"every": 2}}
    for name, steps, fork in (("first", 2, None), ("fork", 4, f"{tmp_path}/first@2")):
        recipe = Recipe.model_validate(SMALL | parts | {"training": {"steps": steps}})
        klimb.train(recipe, run=tmp_path / name, fork=fork)
    files = ("first/checkpoints/step-000002", "fork/checkpoints/step-000004")
    before, after = (set(load_file(tmp_path / file / "remembered.safetensors")) for file in files)
    assert len(before) > 8 and len(after) > 8 and not before <= after


@pytest.mark.parametrize(
    ("objective", "source"),
    [
        ({"type": "kto"}, {"type": "labelled", "prompts": 4}),
        ({"type": "sft"}, {"type": "answers", "prompts": 4}),
        ({"type": "simpo"}, {"type": "pairs", "prompts": 4, "epochs": 2, "minibatches": 2}),
    ],
)
def test_other_kinds_of_answers_train(objective: dict[str, Any], source: dict[str, Any], tmp_path: Path) -> None:
    result = run(tmp_path, objective=objective, source=source, training={"steps": 2, "micro_tokens": 64})
    assert result.step == 2 and result.after["eval/kl"] > 0 and result.after["eval/nll"] != result.before["eval/nll"]
    assert not any("group/degenerate" in line for line in RunDir.open(tmp_path).read_metrics())


ONLINE: dict[str, Any] = {
    "data": {"type": "echo-digit"}, "rewards": [{"type": "exact"}], "evaluation": {"problems": 8},
    "training": {"steps": 1, "micro_tokens": 64},
}  # fmt: skip


@pytest.mark.parametrize(
    ("objective", "kind"), [({"type": "dpo"}, "online_pairs"), ({"type": "ppo", "beta": 0.1}, "online")]
)
def test_an_online_run_with_a_reference_says_how_far_it_went(
    objective: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    source = {"type": kind, "prompts": 2, "completions": 4}
    result = run(tmp_path, **ONLINE, objective=objective, source=source)
    assert result.before["eval/kl"] == 0.0 <= result.after["eval/kl"] and "eval/accuracy" in result.after
    assert "eval/implicit_accuracy" not in result.after


def test_rewards_beside_given_answers_score_the_held_out_ones_and_teach_nothing(tmp_path: Path) -> None:
    digit = {"type": "format", "pattern": "[0-9]*", "weight": 0.0}
    short, settings = {"training": {"steps": 2, "micro_tokens": 64}}, {"problems": 8, "correct": "format"}
    scored = run(tmp_path / "scored", **short, rewards=[digit], evaluation=settings)
    assert weights(scored) == weights(run(tmp_path / "plain", **short, evaluation={"problems": 8}))
    assert scored.after["eval/n"] == 8 and scored.after["eval/score"] == scored.after["eval/accuracy"]
    assert {"eval/kl", "eval/implicit_accuracy", "eval/gain"} <= scored.after.keys()
    (group, *_) = klimb.rollouts.read(RunDir.open(tmp_path / "scored").evaluation(2))
    assert set(group.rollouts[0].scores) == {"format", "eval/kl", "eval/implicit_gap"}


def test_a_reward_model_is_a_folder_that_transformers_loads_and_scores_the_same(tmp_path: Path) -> None:
    settings = {"objective": {"type": "bradley_terry"}}
    result = run(tmp_path / "whole", **settings)
    run(tmp_path / "parts", **settings, training={"steps": 4, "micro_tokens": 64})
    assert weights(run(tmp_path / "parts", **settings)) == weights(result)
    assert result.before["eval/reward_accuracy"] == 0.5 and result.after["eval/reward_std"] > 0
    assert result.before["eval/reward_calibration"] == 0.0 and result.after["eval/longer_wins"] == 0.5
    loaded: Any = AutoModelForSequenceClassification.from_pretrained(result.model)
    policy = load(PolicySettings(name=str(result.model)))
    known = [line for line in RunDir.open(tmp_path / "whole").read_metrics() if "eval/reward_mean" in line][-1]
    assert loaded.config.reward_scale["mean"] == pytest.approx(known["eval/reward_mean"], abs=1e-6)
    assert loaded.config.reward_scale["std"] == pytest.approx(known["eval/reward_std"], abs=1e-6)
    assert loaded.config.reward_scale["answers"] == 16
    kept = load_file(result.model.parent / "critic.safetensors")
    policy.add_critic().restore(kept)
    text, asked = (policy.reply("7"), policy.reply("no")), (1, 70, 71)
    rows = tuple(Rollout(Completion(one, (), "", Finish.EOS), k, k) for k, one in enumerate(text))
    batch = Batch.of([Group(Prompt("p", tokens=asked), rows)])
    with torch.no_grad():
        ours = policy(batch).value
        theirs = [float(loaded(torch.tensor([[*asked, *one[:-1]]])).logits) for one in text]
    assert ours is not None
    found = ours[batch.lengths.cumsum(0) - 1].tolist()
    assert found == pytest.approx([one + loaded.config.reward_bias for one in theirs], abs=1e-5)
    further = run(tmp_path / "further", **settings, model={"name": str(result.model)})
    for name in ("eval/reward_mean", "eval/reward_std", "eval/reward_loss"):
        assert further.before[name] == pytest.approx(result.after[name], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"source": {"type": "online"}}, "dpo reads pairs"),
        ({"objective": {"type": "grpo"}}, "grpo reads groups"),
        ({"objective": {"type": "hypo"}}, "hypo reads pairs, samples"),
        ({"sampling": {"temperature": 0.7}}, "another temperature than 1"),
        ({"selector": {"type": "random"}, "source": {"type": "online_pairs"}}, "whole answers"),
        ({"data": {"type": "echo-digit"}}, "which has prompts only"),
        ({"selector": {"type": "random"}}, "whole answers"),
        ({"objective": {"type": "grpo"}, "source": {"type": "online"}}, "no rewards"),
        ({"evaluation": {"correct": "judge", "by": "side"}}, "by evaluation.correct, evaluation.by"),
        ({"objective": {"type": "bradley_terry"}, "rewards": [{"type": "length"}]}, "which answers nothing"),
        ({"objective": {"type": "bradley_terry"}, "evaluation": {"greedy": True}}, "by evaluation.greedy"),
        *(
            ({"objective": {"type": "bradley_terry"}, "source": {"type": kind}}, f"source.type={kind}, which draws")
            for kind in ("online_pairs", "iterative_pairs", "mixture")
        ),
    ],
)
def test_what_does_not_fit_together_is_said_with_its_cure(changes: dict[str, Any], found: str) -> None:
    lines = [fault.line() for fault in Recipe.model_validate(SMALL | changes).faults()]
    assert any(found in line for line in lines), lines


def test_a_source_without_a_type_is_an_online_one() -> None:
    settings = SMALL | {"data": {"type": "echo-digit"}, "objective": {"type": "grpo"}, "rewards": [{"type": "exact"}]}
    recipe = Recipe.model_validate(settings | {"source": {"prompts": 3, "completions": 5}})
    assert (recipe.source.type, recipe.source.prompts, recipe.source.completions) == ("online", 3, 5)
    assert recipe.faults() == []


@pytest.mark.slow
def test_hypo_learns_what_dpo_learns_and_stays_near_its_start(root: Path, tmp_path: Path) -> None:
    ends = {}
    for name in ("tiny-dpo", "tiny-hypo"):
        result = in_time(root, name, tmp_path / name)
        assert result.before["eval/implicit_accuracy"] == 0.5 and result.after["eval/implicit_accuracy"] > 0.9
        ends[name] = result.after
    assert ends["tiny-hypo"]["eval/kl_high"] < ends["tiny-dpo"]["eval/kl_low"] / 3


@pytest.mark.slow
def test_the_tiny_reward_model_tells_held_out_pairs_apart(root: Path, tmp_path: Path) -> None:
    result = in_time(root, "tiny-reward-model", tmp_path)
    assert result.before["eval/reward_accuracy"] == 0.5 and result.after["eval/reward_low"] > 0.85


@pytest.mark.slow
def test_online_dpo_learns_from_pairs_of_its_own_samples(root: Path, tmp_path: Path) -> None:
    result = in_time(root, "tiny-online-dpo", tmp_path)
    assert result.before["eval/accuracy"] < 0.1 and result.after["eval/accuracy"] > 0.9
    assert result.before["eval/kl"] == 0.0 and result.after["eval/kl_low"] > 1.0


@pytest.mark.slow
def test_in_rounds_the_tiny_model_learns_in_its_time(root: Path, tmp_path: Path) -> None:
    result = in_time(root, "tiny-iterative-dpo", tmp_path)
    assert result.after["eval/accuracy"] >= 0.8
    lines = RunDir.open(tmp_path).read_metrics()[1:]
    assert {line["preference/round"] for line in lines} == {float(number) for number in range(1, 21)}
