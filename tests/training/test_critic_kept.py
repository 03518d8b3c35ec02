"""All of a critic with a model of its own is in every checkpoint: a run goes on to the same bytes, a fork with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import klimb
from klimb.errors import ModelError
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.policy.value_model import open_value_model
from klimb.rundir import RunDir
from klimb.training.base import AdamW
from klimb.training.own_critic import OwnCritic
from tests.training.value_models import SMALL, goes_on_to_the_same_bytes, parts, ppo, recipe, reward_model, same


def test_a_stopped_run_in_half_precision_goes_on_to_the_same_bytes_from_a_reward_models_head(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    folder = reward_model(tmp_path / "judge", layers=1)
    halves = {"name": "tiny", "precision": "bfloat16", "tiny": {"hidden": 32, "layers": 1}}
    chosen: dict[str, Any] = {"model": halves, **ppo(path=str(folder))}
    last = goes_on_to_the_same_bytes(tmp_path / "run", chosen)
    kept = load_file(last / "value_model.safetensors")
    critic = parts(kept, "weights.")
    assert {weight.dtype for weight in critic.values()} == {torch.float32}
    assert any((one != one.bfloat16().float()).any() for one in critic.values()), "the masters, not what computes"
    assert not (last / "critic.safetensors").exists()
    moments = parts(kept, "second.")
    assert critic.keys() == moments.keys() and all((moment > 0).any() for moment in moments.values())
    assert int(kept["updates"]) == 2
    policy = load_file(last / "optimizer.safetensors")
    assert parts(policy, "second.").keys() == dict(load(SMALL).named_parameters()).keys(), "the policy's alone"
    lines, events = (getattr(RunDir.open(tmp_path / "run"), f"read_{what}")() for what in ("metrics", "events"))
    told = {"value/loss", "value/mean", "value/explained_variance", "optim/grad_norm", "optim/critic_grad_norm"}
    assert all(told <= set(line) for line in lines[1:])
    assert abs(lines[1]["value/mean"]) > 0.01, "no head of zeros"
    how = next(event["how"] for event in events if event["kind"] == "policy")
    assert (
        "a critic with a model of its own: LlamaForCausalLM" in how and "a head that begins as its folder has it" in how
    )


@pytest.mark.parametrize("how", ["lora", "schedule_free"])
def test_it_learns_whole_beside_an_adapter_and_under_schedule_free_and_goes_on_to_the_same_bytes(
    how: str, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    tiny: dict[str, Any] = {"name": "tiny", "tiny": {"hidden": 32, "layers": 1}}
    averages: dict[str, Any] = {"model": tiny, "optimizer": {"type": "schedule_free", "lr": 0.003, "warmup": 0}}
    chosen = {"model": tiny | {"lora": {"rank": 2}}} if how == "lora" else averages
    last = goes_on_to_the_same_bytes(tmp_path / "run", chosen)
    begun = dict(open_value_model(None, SMALL, load(SMALL), 0)[0].named_parameters())
    kept = load_file(last / "value_model.safetensors")
    critic, points = parts(kept, "weights."), parts(kept, "y.")
    assert critic.keys() == begun.keys()
    assert all(not torch.equal(critic[name], weight) for name, weight in begun.items() if "critic" in name)
    assert how == "lora" or any(not torch.equal(points[name], weight) for name, weight in critic.items())


def test_weights_of_another_model_are_not_put_into_it(tmp_path: Path) -> None:
    critic = OwnCritic(open_value_model(None, SMALL, load(SMALL), 0)[0], AdamW())
    before = {name: held.clone() for name, held in critic.state().items()}
    for sizes in ({"layers": 2}, {"hidden": 64, "layers": 1}):
        settings = PolicySettings(name="tiny", tiny={"hidden": 32} | sizes)
        other = OwnCritic(open_value_model(None, settings, load(SMALL), 0)[0], AdamW())
        for one, held in ((critic, other), (other, critic)):
            with pytest.raises(KeyError, match=r"weights of this model: .* wants .*, found "):
                one.restore(held.state())
    assert same(critic.state(), before)
    narrow = load(SMALL)
    narrow.model.resize_token_embeddings(300)
    with pytest.raises(ModelError, match=r"an embedding of \d+ rows, and the policy may draw any of 300 tokens"):
        open_value_model(None, SMALL, narrow, 0)


MINE = "from klimb.objectives.ppo import PPO\n\n\nclass Mine(PPO):\n    pass\n"


def forking(how: str, folder: Path, **value: Any) -> dict[str, Any]:
    """Settings of a run whose critic begins as a judge in this folder, under an objective or optimizer of a kind."""
    model = {"type": "model", "path": str(folder), **value}
    if how == "custom":
        (folder.parent / "mine.py").write_text(MINE)
        path = f"{folder.parent / 'mine.py'}:Mine"
        return {"objective": {"type": "custom", "path": path, "settings": {"value": model}}}
    return ppo(**model) | ({"optimizer": {"type": "schedule_free", "lr": 0.003}} if how == "schedule_free" else {})


@pytest.mark.parametrize("how", ["ppo", "custom", pytest.param("schedule_free", marks=pytest.mark.slow)])
def test_a_fork_with_another_critic_begins_it_anew_and_goes_on_with_the_same_one(how: str, tmp_path: Path) -> None:
    judges = [reward_model(tmp_path / f"judge{seed}", seed=seed, layers=1) for seed in (5, 6)]
    judges.append(reward_model(tmp_path / "deep", layers=2))
    klimb.train(recipe(1, **forking(how, judges[0])), run=tmp_path / "run")
    parent = load_file(tmp_path / "run/checkpoints/step-000001/value_model.safetensors")
    respelled = forking(how, tmp_path / "judge6/../judge5", lr=0.001)
    for number, chosen in enumerate([respelled, *(forking(how, at) for at in judges[1:])]):
        run = tmp_path / f"fork{number}"
        klimb.train(recipe(2, **chosen), run=run, fork=f"{tmp_path / 'run'}@1")
        kept = load_file(run / "checkpoints/step-000001/value_model.safetensors")
        told = [event["what"] for event in RunDir.open(run).read_events() if event["kind"] == "begun_anew"]
        assert told == ([["value_model"]] if number else [])
        if number == 0:
            assert same(kept, parent), "the same folder in another spelling"
        else:
            begun = dict(open_value_model(judges[number], SMALL, load(SMALL), 0)[0].named_parameters())
            assert same(parts(kept, "weights."), begun) and int(kept["updates"]) == 0
