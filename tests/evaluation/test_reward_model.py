"""The line of words that a reward model has to beat."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest

import klimb
from klimb.evaluation.reward_model import words_win
from klimb.recipe import Recipe
from klimb.rewards.reward_model import RewardModel
from klimb.rundir import RunDir
from klimb.types import Completion, Finish, Prompt, Reply


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
