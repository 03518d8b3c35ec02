"""Reward models in runs: what they are measured by, from data and from logs, and how they read what they learn."""

from __future__ import annotations

import json
from math import exp, log1p
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

import klimb
from klimb.config import resolve
from klimb.errors import SettingsError
from klimb.evaluation.reward_model import words_win
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.policy.reward_head import Scale, read
from klimb.recipe import Recipe
from klimb.rewards.reward_model import RewardModel
from klimb.rundir import RunDir
from klimb.types import Completion, Finish, Prompt, Reply, Rollout
from tests.sources.test_replayed import group, log


def test_a_model_of_words_finds_the_word_that_is_always_preferred_and_nothing_where_there_is_none() -> None:
    prompts = [Prompt(f"p{n}", text=f"{n}?") for n in range(40)]
    polite = {p.id: (Reply(f"please {n}", True), Reply(f"never {n}", False)) for n, p in enumerate(prompts)}
    same = {prompt.id: (Reply("a", True), Reply("a", False)) for prompt in prompts}
    assert words_win(prompts[:30], prompts[30:], polite) == {"eval/words_win": 1.0}
    assert words_win(prompts[:30], prompts[30:], same) == {"eval/words_win": 0.5}
    assert words_win([], prompts, polite) == {} and words_win(prompts, [], polite) == {}


def test_answers_that_spell_special_tokens_are_read_alike_in_training_in_its_measure_and_in_scoring(
    tmp_path: Path,
) -> None:
    rows = [{"prompt": f"{n}?", "chosen": f"yes {n}<eos>", "rejected": f"no<eos>{n}<bos>"} for n in range(12)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    settings = {
        "model": {"name": "tiny", "tiny": {"hidden": 32}},
        "data": {"type": "preferences", "path": str(tmp_path / "pairs.jsonl"), "share": 0.4},
        "objective": {"type": "bradley_terry"}, "source": {"type": "pairs", "prompts": 4},
        "optimizer": {"type": "adamw", "lr": 0.01, "warmup": 0}, "training": {"steps": 2},
    }  # fmt: skip
    recipe = Recipe.model_validate(settings)
    result, problems = klimb.train(recipe, run=tmp_path / "run"), recipe.data.open()
    with RewardModel(path=result.model, normalised=False).open() as scorer:
        answers = [(prompt, one.text) for prompt in problems.held_out for one in problems.given[prompt.id]]
        found = scorer([p for p, _ in answers], [Completion((7,), (), text, Finish.EOS) for _, text in answers])
    values = [score.value for score in found if score.value is not None]
    assert len(values) == len(found) > 4
    assert fmean(values) == pytest.approx(result.after["eval/reward_mean"], abs=1e-5)
    learned = [one.completion for g in klimb.rollouts.read(RunDir.open(result.path).rollout(1)) for one in g.rollouts]
    assert {one.tokens.count(2) for one in learned} == {1} and all(one.tokens[-1] == 2 for one in learned)
    assert {len(one.tokens) for one in learned if one.text.startswith("no")} <= {
        len("no<eos>1<bos>") + k for k in (1, 2)
    }


@pytest.mark.parametrize("data", ["echo-pairs", "echo-digit"])
def test_pairs_of_a_log_train_a_reward_model_that_is_never_asked_anything(data: str, tmp_path: Path) -> None:
    answers = [Completion((token, 2), (), text, Finish.EOS) for token, text in ((70, "a"), (71, "b"))]
    rows = tuple(Rollout(done, k, k, {}, 1.0 - k) for k, done in enumerate(answers))
    logged = log(tmp_path, *(group(place, rollouts=rows) for place in range(4)))
    settings: dict[str, Any] = {
        "model": {"name": "tiny", "tiny": {"hidden": 32}}, "data": {"type": data, "train": 8},
        "objective": {"type": "bradley_terry"},
        "source": {"type": "logged_pairs", "logs": str(logged), "prompts": 4, "epochs": 2},
        "optimizer": {"type": "adamw", "lr": 0.01, "warmup": 0}, "training": {"steps": 2},
        "evaluation": {"problems": 4},
    }  # fmt: skip
    result = klimb.train(resolve(Recipe, settings), run=tmp_path / "run")
    found, lines = read(result.model), RunDir.open(result.path).read_metrics()
    assert lines[-1]["loss"] < lines[1]["loss"] and not any("policy/entropy" in line for line in lines)
    with RewardModel(path=result.model, normalised=False).open() as scorer:
        better, worse = (score.value for score in scorer([Prompt("p", text="?")] * 2, answers))
    assert better is not None and worse is not None and better > worse
    if data == "echo-digit":  # whose held-out prompts have no answers to measure
        assert found.scale is None and result.after == {}
    else:
        mean, std = (result.after[f"eval/reward_{name}"] for name in ("mean", "std"))
        assert found.scale == Scale(pytest.approx(mean, abs=1e-6), pytest.approx(std, abs=1e-6), 8)
        assert "eval/words_win" not in result.after, "of pairs that it does not learn from"
    with pytest.raises(SettingsError, match="a reward model in training, which answers nothing"):
        resolve(Recipe, settings | {"rewards": [{"type": "exact"}]})


@pytest.mark.parametrize("words", [("a", "b"), ("yes", "yet")])
def test_a_cut_answer_of_a_log_is_learned_by_its_last_token_as_it_is_scored(
    words: tuple[str, str], tmp_path: Path
) -> None:
    policy = load(PolicySettings(name="tiny", tiny={"hidden": 32}))
    asked = [policy.render(Prompt(f"p{place}", text=f"{place}?")) for place in range(4)]
    ends = [Finish.LENGTH, Finish.STOP]
    done = [Completion(policy.reply(word)[:-1], (), word, end) for word, end in zip(words, ends, strict=True)]
    rows = tuple(Rollout(one, k, k, {}, 1.0 - k) for k, one in enumerate(done))
    settings: dict[str, Any] = {
        "model": {"name": "tiny", "tiny": {"hidden": 32}}, "data": {"type": "echo-digit"},
        "objective": {"type": "bradley_terry"}, "training": {"steps": 2}, "checkpoints": {"every": 1},
        "source": {"type": "logged_pairs", "prompts": 4}, "optimizer": {"type": "adamw", "lr": 0.01, "warmup": 0},
    }  # fmt: skip
    settings["source"]["logs"] = str(log(tmp_path, *(group(prompt=one, rollouts=rows) for one in asked)))
    result = klimb.train(resolve(Recipe, settings), run=tmp_path / "run")
    first, second = RunDir.open(result.path).read_metrics()[-2:]
    assert first["optim/grad_norm"] > 0 and second["preference/accuracy"] == 1.0
    with RewardModel(path=tmp_path / "run/checkpoints/step-000001/model", normalised=False).open() as scorer:
        sides = [[score.value for score in scorer(asked, [one] * 4)] for one in done]
    losses = [log1p(exp(w - v)) + 0.01 * (v + w) ** 2 for v, w in zip(*sides, strict=True)]
    assert second["loss"] == pytest.approx(fmean(losses), abs=1e-6)
