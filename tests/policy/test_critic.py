"""The value head: values and gradients are those of a plain forward and a linear layer, on every way to compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from klimb.batch import Batch
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.policy.paths import Plain
from klimb.policy.policy import Policy
from tests.policy.zoo import CONFIGS, batch_of, gradients, largest_gap, policy_of

WAYS = pytest.mark.parametrize("way", ["packed", "plain", "own logits"])
NAMES = ["llama", "gemma2", "gpt2"]


def with_critic(name: str, way: str, **settings: Any) -> Policy:
    """A policy whose value head has weights that are not zero."""
    policy = policy_of(CONFIGS[name], path="packed" if way == "packed" else "plain")
    if way == "own logits":
        policy.path = Plain(policy.model, None)
    critic = policy.add_critic(**settings)
    with torch.no_grad():
        critic.weight.copy_(torch.randn(critic.weight.shape, generator=torch.Generator().manual_seed(1)))
        critic.bias.fill_(0.7)
    return policy


def alone(policy: Policy, batch: Batch) -> Tensor:
    """Values by a plain forward pass of each sequence alone, and a linear layer on its last hidden states."""
    assert policy.critic is not None
    values = []
    for row, tokens in enumerate(torch.split(batch.tokens, batch.lengths.tolist())):
        prompt = batch.prompts[int(batch.group[row])]
        states = policy.model.base_model(input_ids=torch.cat([prompt, tokens])[None], use_cache=False)
        before = states.last_hidden_state[0, prompt.numel() - 1 : -1]
        values.append(before @ policy.critic.weight + policy.critic.bias)
    return torch.cat(values)


@WAYS
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_are_those_of_each_sequence_alone_and_a_linear_layer(name: str, way: str) -> None:
    policy, batch = with_critic(name, way), batch_of()
    plain = with_critic(name, "own logits")
    assert batch.weight is not None and policy.critic is not None and plain.critic is not None
    truth = alone(plain, batch)
    wanted = gradients(plain.model, (batch.weight * truth.square()).sum())
    head = {part: weight.grad.clone() for part, weight in plain.critic.named_parameters() if weight.grad is not None}
    found = policy(batch)
    assert found.value is not None and found.value.dtype == torch.float32
    torch.testing.assert_close(found.value, truth, atol=1e-4, rtol=0)
    ours = gradients(policy.model, (batch.weight * found.value.square()).sum())
    assert largest_gap(ours, wanted) < 1e-4
    for part, weight in policy.critic.named_parameters():
        torch.testing.assert_close(weight.grad, head[part], atol=1e-5, rtol=1e-4)


@WAYS
def test_log_probs_and_entropies_are_the_same_bits_with_and_without_a_critic(way: str) -> None:
    policy, batch = with_critic("llama", way), batch_of()
    valued = policy(batch)
    policy.critic = None
    bare = policy(batch)
    assert bare.value is None
    assert torch.equal(valued.logp, bare.logp) and torch.equal(valued.entropy, bare.entropy)


def test_a_new_critic_says_zero_and_moves_nothing_but_itself() -> None:
    policy, batch = policy_of(CONFIGS["llama"]), batch_of()
    critic = policy.add_critic()
    value = policy(batch).value
    assert value is not None and (value == 0).all()
    found = gradients(policy.model, (value - 1.0).square().sum())
    assert all((gradient == 0).all() for gradient in found.values())
    assert critic.weight.grad is not None and (critic.weight.grad != 0).any()


@WAYS
def test_where_the_trunk_is_detached_only_the_head_learns(way: str) -> None:
    policy, batch = with_critic("llama", way, moves_trunk=False), batch_of()
    value = policy(batch).value
    assert value is not None and policy.critic is not None
    torch.testing.assert_close(value, with_critic("llama", way)(batch).value, rtol=0, atol=0)
    assert gradients(policy.model, value.square().sum()) == {}
    assert policy.critic.weight.grad is not None and policy.critic.bias.grad is not None


def test_neither_the_version_nor_the_saved_model_knows_of_the_critic(tmp_path: Path) -> None:
    policy = load(PolicySettings(name="tiny"))
    version, described = policy.version(), policy.describe()
    policy.save(tmp_path / "before")
    critic = policy.add_critic()
    with torch.no_grad():
        critic.bias.fill_(3.0)
    assert [name for name, _ in policy.named_parameters()][-2:] == ["critic.weight", "critic.bias"]
    assert len(list(policy.parameters())) == len(list(policy.named_parameters()))
    assert (policy.version(), policy.describe()) == (version, described)
    policy.save(tmp_path / "after")
    files = {path.name: path.read_bytes() for path in (tmp_path / "before").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "after").iterdir()} == files
    assert not [name for name in load_file(tmp_path / "after/model.safetensors") if "critic" in name]


def test_a_critics_state_is_put_back_in_place_and_another_one_is_refused() -> None:
    first, second = (policy_of(CONFIGS["llama"]).add_critic() for _ in range(2))
    with torch.no_grad():
        first.weight.normal_()
    place = second.weight
    second.restore({name: tensor.clone() for name, tensor in first.state().items()})
    assert second.weight is place and torch.equal(second.weight, first.weight)
    with pytest.raises(KeyError, match="bias"):
        second.restore({"weight": first.weight.detach()})


def test_in_half_precision_the_head_computes_in_float32() -> None:
    policy = load(PolicySettings(name="tiny", precision="bfloat16"))
    critic = policy.add_critic()
    with torch.no_grad():
        critic.weight.fill_(0.01)
    value = policy(batch_of()).value
    assert value is not None and value.dtype == critic.weight.dtype == torch.float32
    value.sum().backward()
    assert next(policy.parameters()).grad is not None
