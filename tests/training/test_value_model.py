"""A critic with a model of its own: it learns, moves nothing of the policy, and is part of every checkpoint."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import klimb
from klimb.batch import Batch, Outputs
from klimb.cli.arithmetic import arithmetic
from klimb.config import resolve
from klimb.errors import ModelError, SettingsError
from klimb.objectives.ppo import PPO
from klimb.policy import reward_head
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.policy.value_model import open_value_model
from klimb.recipe import Recipe
from klimb.rewards.exact import Exact
from klimb.rewards.reward_model import RewardModel, scores_raw
from klimb.rundir import RunDir
from klimb.selection.base import EntropyOf
from klimb.selection.every import Every
from klimb.selection.top import Top
from klimb.training.base import AdamW, Training
from klimb.training.optimizer import MasterAdamW
from klimb.training.step import Learner, learn
from klimb.training.stopwatch import Stopwatch
from klimb.training.weighing import Passes
from klimb.types import Completion, Finish, Group, Prompt, Rollout
from tests.faults.runs import SETTINGS, content
from tests.training.toy import groups

CURRENT = EntropyOf(of="current")
SMALL = PolicySettings(name="tiny", tiny={"hidden": 32, "layers": 1})


def learner(value_weight: float = 1.0) -> Learner:
    policy = load(SMALL)
    critic, how = open_value_model(None, SMALL, policy, 0)
    assert how.endswith("a head of zeros") and critic.trunk.version() == policy.version()
    named = chain(policy.named_parameters(), critic.named_parameters())
    optimizer = MasterAdamW(named, AdamW(clip=1e9))
    objective = PPO(lam=1.0, value_weight=value_weight, value_clip=None)
    return Learner(policy, optimizer, objective, Every(), Training(), critic=critic)


def weights(made: Learner, critic: bool) -> dict[str, torch.Tensor]:
    return {n: w.clone() for n, w in made.optimizer.master.items() if n.startswith("value_model.") == critic}


def test_it_learns_what_answers_are_worth_and_its_loss_moves_nothing_of_the_policy() -> None:
    batch = Batch.of(groups(4, 4))
    weak, strong = learner(0.1), learner(10.0)
    before = weights(weak, critic=False)
    found = [learn(one, batch, 0.005, 0, Stopwatch()).metrics() for one in (weak, strong)]
    other = weights(strong, critic=False)
    assert all(torch.equal(weight, other[name]) for name, weight in weights(weak, critic=False).items())
    assert any(not torch.equal(before[name], weight) for name, weight in other.items()), "the policy has learned"
    found += [learn(strong, batch, 0.005, 0, Stopwatch()).metrics() for _ in range(15)]
    known = [line["value/explained_variance"] for line in found]
    assert known[0] == pytest.approx(0.0, abs=1e-6) and known[-1] > 0.5, known
    assert found[-1]["value/loss"] < 0.5 * found[0]["value/loss"]


def reward_model(folder: Path, scale: reward_head.Scale | None = None, **sizes: Any) -> Path:
    """A folder as training a reward model leaves it, its head not zero."""
    policy = load(PolicySettings(name="tiny", tiny={"hidden": 32, **sizes}), seed=5)
    critic = policy.add_critic()
    with torch.no_grad():
        critic.weight.copy_(0.1 * torch.randn(32, generator=torch.Generator().manual_seed(1)))
        critic.bias.fill_(0.3)
    reward_head.save(policy, scale, folder)
    return folder


def recipe(steps: int, **sections: Any) -> Recipe:
    base = {**json.loads(json.dumps(SETTINGS)), "objective": {"type": "ppo", "value": {"type": "model"}}}
    base |= {"training": {"steps": steps, "micro_tokens": 64}, "checkpoints": {"every": 1}}
    base |= {"evaluation": {"every": 9, "problems": 1, "start": False}, "source": {"prompts": 2, "completions": 4}}
    return resolve(Recipe, base | sections)


def goes_on_to_the_same_bytes(run: Path, chosen: dict[str, Any]) -> Path:
    """The last checkpoint of a run of two steps, of which the second was lost and done again."""
    last = run / "checkpoints/step-000002"
    klimb.train(recipe(2, **chosen), run=run)
    whole = content(run)
    shutil.rmtree(last)
    klimb.train(recipe(2, **chosen), run=run)
    assert content(run) == whole
    return last


def test_a_stopped_run_in_half_precision_goes_on_to_the_same_bytes_from_a_reward_models_head(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    folder = reward_model(tmp_path / "judge", layers=1)
    chosen: dict[str, Any] = {
        "model": {"name": "tiny", "precision": "bfloat16", "tiny": {"hidden": 32, "layers": 1}},
        "objective": {"type": "ppo", "value": {"type": "model", "path": str(folder)}},
    }
    last = goes_on_to_the_same_bytes(tmp_path / "run", chosen)
    critic = load_file(last / "value_model.safetensors")
    assert {held.dtype for held in critic.values()} == {torch.float32}
    assert any((held != held.bfloat16().float()).any() for held in critic.values()), "the masters, not what computes"
    assert not (last / "critic.safetensors").exists()
    moments = load_file(last / "optimizer.safetensors")
    assert all((moments[f"second.value_model.{name}"] > 0).any() for name in critic)
    lines, events = (getattr(RunDir.open(tmp_path / "run"), f"read_{what}")() for what in ("metrics", "events"))
    assert all({"value/loss", "value/mean", "value/explained_variance"} <= set(line) for line in lines[1:])
    assert abs(lines[1]["value/mean"]) > 0.01, "no head of zeros"
    how = next(event["how"] for event in events if event["kind"] == "policy")
    assert (
        "a critic with a model of its own: LlamaForCausalLM" in how and "a head that begins as its folder has it" in how
    )


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
    there, found = (open_value_model(at, SMALL, policy, 0)[0].state() for at in (folder, Path("tiny")))
    assert there.keys() == found.keys() and all(torch.equal(there[name], found[name]) for name in there)
    chosen = recipe(1, objective={"type": "ppo", "value": {"type": "model", "path": "tiny"}})
    assert any("0.1 M of the critic's own model" in line for line in arithmetic(chosen)), arithmetic(chosen)


def test_values_alone_take_no_forward_pass_of_the_policy_unless_that_says_what_is_needed() -> None:
    made, batch = learner(), Batch.of(groups(2, 4))
    asked = ((Every(), Passes(), 0), (Top(share=0.5, entropy=CURRENT), Passes(), 1), (Every(), Passes(2, 1), 1))
    for selector, passes, more in asked:
        learns: list[bool] = []

        def policy(part: Batch, learns: list[bool] = learns) -> Outputs:
            learns.append(torch.is_grad_enabled())
            return made.policy(part)

        one = replace(made, policy=policy, selector=selector, passes=passes)
        assert not learn(one, batch, 0.0, 0, Stopwatch()).skipped
        assert learns.count(False) == more and learns.count(True) == passes.epochs, selector


def test_a_fork_with_another_critic_begins_it_anew_and_goes_on_with_the_same_one(tmp_path: Path) -> None:
    judges = [reward_model(tmp_path / name, layers=layers) for name, layers in (("one", 1), ("two", 2))]
    chosen = [{"objective": {"type": "ppo", "value": {"type": "model", "path": str(at)}}} for at in judges]
    klimb.train(recipe(1, **chosen[0]), run=tmp_path / "run")
    files = [tmp_path / "run"]
    for number, how in enumerate(chosen):
        files.append(tmp_path / f"fork{number}")
        klimb.train(recipe(2, **how), run=files[-1], fork=f"{tmp_path / 'run'}@1")
    first, same, other = (load_file(at / "checkpoints/step-000001/value_model.safetensors") for at in files)
    assert first.keys() == same.keys() and all(torch.equal(first[name], same[name]) for name in first)
    begun = open_value_model(judges[1], SMALL, load(SMALL), 0)[0].state()
    assert begun.keys() == other.keys() and all(torch.equal(begun[name], other[name]) for name in begun)
    told = [[e["what"] for e in RunDir.open(at).read_events() if e["kind"] == "begun_anew"] for at in files[1:]]
    assert told == [[], [["value_model"]]]


def test_weights_of_another_model_are_not_put_into_it(tmp_path: Path) -> None:
    critic = open_value_model(None, SMALL, load(SMALL), 0)[0]
    before = {name: weight.clone() for name, weight in critic.state().items()}
    for sizes in ({"layers": 2}, {"hidden": 64, "layers": 1}):
        other = open_value_model(None, PolicySettings(name="tiny", tiny={"hidden": 32} | sizes), load(SMALL), 0)[0]
        for one, held in ((critic, other), (other, critic)):
            with pytest.raises(KeyError, match=r"weights of this model: .* wants .*, found "):
                one.restore(held.state())
    assert all(torch.equal(weight, before[name]) for name, weight in critic.state().items())
    narrow = load(SMALL)
    narrow.model.resize_token_embeddings(300)
    with pytest.raises(ModelError, match=r"an embedding of \d+ rows, and the policy may draw any of 300 tokens"):
        open_value_model(None, SMALL, narrow, 0)


@pytest.mark.parametrize("how", ["lora", "schedule_free"])
def test_it_learns_whole_beside_an_adapter_and_under_schedule_free_and_goes_on_to_the_same_bytes(
    how: str, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    tiny: dict[str, Any] = {"name": "tiny", "tiny": {"hidden": 32, "layers": 1}}
    averages: dict[str, Any] = {"model": tiny, "optimizer": {"type": "schedule_free", "lr": 0.003, "warmup": 0}}
    chosen = {"model": tiny | {"lora": {"rank": 2}}} if how == "lora" else averages
    last = goes_on_to_the_same_bytes(tmp_path / "run", chosen)
    begun = open_value_model(None, SMALL, load(SMALL), 0)[0].state()
    critic, moments = load_file(last / "value_model.safetensors"), load_file(last / "optimizer.safetensors")
    assert critic.keys() == begun.keys()
    assert all(not torch.equal(critic[name], weight) for name, weight in begun.items() if "critic" in name)
    points = {name.removeprefix("y.value_model."): point for name, point in moments.items() if name.startswith("y.")}
    assert how == "lora" or any(not torch.equal(points[name], weight) for name, weight in critic.items())
