"""What a critic with a model of its own begins as, in which units, what is refused, and what it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from klimb.batch import Batch
from klimb.cli.arithmetic import arithmetic
from klimb.cli.needs import of_recipe
from klimb.config import dump
from klimb.critic import critic_of
from klimb.errors import ModelError, SettingsError
from klimb.policy import reward_head
from klimb.policy.loading import load
from klimb.policy.value_model import open_value_model
from klimb.rewards.exact import Exact
from klimb.rewards.reward_model import RewardModel, scores_raw
from klimb.types import Completion, Finish, Group, Prompt, Rollout
from tests.training.value_models import SMALL, ppo, recipe, reward_model


def test_what_it_cannot_begin_as_or_go_with_is_refused(tmp_path: Path) -> None:
    policy = load(SMALL)
    short = reward_model(tmp_path / "short", context=64)
    with pytest.raises(ModelError, match="at most 64 tokens, and the policy reads 512"):
        open_value_model(short, SMALL, policy, 0)
    other = reward_model(tmp_path / "other")
    policy.tokenizer.add_tokens(["<more>"])
    with pytest.raises(ModelError, match="a tokenizer of other tokens"):
        open_value_model(other, SMALL, policy, 0)
    with pytest.raises(SettingsError, match=r"objective\.trunk=false.*a model of its own"):
        recipe(1, objective={"type": "ppo", "trunk": False, "value": {"type": "model"}})
    made = recipe(1, objective={"type": "ppo", "value": {"type": "model", "path": str(other)}})
    assert {other / "config.json", other / "model.safetensors"} <= set(made.files())


def test_the_dry_run_tells_what_it_takes(tmp_path: Path) -> None:
    plain = arithmetic(recipe(1, objective={"type": "ppo"}))
    beside = arithmetic(recipe(1))
    assert [a for a, b in zip(plain, beside, strict=True) if a != b] == [plain[-2], plain[-1]]
    assert "0.0 M of the critic's own model" in beside[-1] and "critic" not in plain[-1]
    gone = {"type": "ppo", "value": {"type": "model", "path": str(tmp_path / "gone")}}
    assert "the files of objective.value.path are not on this machine" in arithmetic(recipe(1, objective=gone))[-1]


@pytest.mark.parametrize("std", [4.0, 0.05])
def test_a_reward_models_head_begins_in_the_units_of_the_rewards_that_it_gives(std: float, tmp_path: Path) -> None:
    folder = reward_model(tmp_path / "judge", reward_head.Scale(0.7, std, 8), layers=1)
    policy, prompt = load(SMALL), Prompt("p", text="abc")
    answer = Completion(policy.reply("yes"), (), "yes", Finish.EOS)
    batch = Batch.of([Group(policy.render(prompt), (Rollout(answer, 0, 0),))])
    for normalised in (True, False):
        critic, how = open_value_model(folder, SMALL, policy, 0, normalised)
        with RewardModel(path=folder, normalised=normalised).open() as scorer:
            (score,) = scorer([prompt], [answer])
        assert float(critic(batch)[-1].detach()) == pytest.approx(score.value, rel=1e-5), normalised
        assert (f"less 0.7, over {std:.4g}: in normalised rewards" in how) == normalised
        assert scores_raw([Exact(), RewardModel(path=folder, normalised=normalised)], folder) != normalised
    assert not scores_raw([RewardModel(path=tmp_path / "another", normalised=False)], folder)


def test_a_folder_that_is_called_as_the_built_in_model_is_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, policy = reward_model(tmp_path / "tiny", layers=8), load(SMALL)
    monkeypatch.chdir(tmp_path)
    critics = (open_value_model(at, SMALL, policy, 0)[0] for at in (folder, Path("tiny")))
    there, found = (dict(critic.named_parameters()) for critic in critics)
    assert there.keys() == found.keys() and all(torch.equal(there[name], found[name]) for name in there)
    chosen = recipe(1, objective={"type": "ppo", "value": {"type": "model", "path": "tiny"}})
    assert any("0.1 M of the critic's own model" in line for line in arithmetic(chosen)), arithmetic(chosen)


def test_the_units_are_those_of_the_rewards_of_the_same_folder_however_it_is_spelled_and_the_doctor_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = reward_model(tmp_path / "judge", reward_head.Scale(0.7, 4.0, 8), layers=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for spelled in ("judge", "~/judge", "./judge/../judge", str(folder)):
        for normalised in (True, False):
            rewards = [{"type": "reward_model", "path": spelled, "normalised": normalised}]
            made = recipe(1, **ppo(path=str(folder)), rewards=rewards)
            Path("a.yaml").write_text(json.dumps(dump(made)))
            (critic,) = [found for found in of_recipe("a.yaml") if found.name == "critic"]
            assert critic.state == "ok" and ("in normalised rewards" in critic.text) == normalised, spelled
            assert (found := critic_of(made, load(SMALL))) is not None and found[1] == critic.text
