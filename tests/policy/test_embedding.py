"""The embedding's gradient in half precision: a token that occurs often gets all of what it is due."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from klimb.policy.base import PolicySettings
from klimb.policy.embedding import lookup, swap_embeddings
from klimb.policy.loading import load
from klimb.policy.policy import Policy
from tests.policy.zoo import CONFIGS, batch_of, gradients, model_of, policy_of

FREQUENT = 200


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_token_that_occurs_a_thousand_times_gets_a_gradient_of_a_thousand(dtype: torch.dtype) -> None:
    weight = torch.randn(9, 4, dtype=dtype, requires_grad=True)
    tokens = torch.full((4, 251), 7)
    tokens[:, 0], tokens[0, 1] = 2, 3
    found = lookup(tokens, weight, padding=3)
    assert torch.equal(found, nnf.embedding(tokens, weight))
    found.backward(torch.ones_like(found))
    assert weight.grad is not None and weight.grad.dtype == dtype
    wanted = torch.tensor([0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0, 999.0, 0.0]).to(dtype)[:, None].expand(-1, 4)
    assert torch.equal(weight.grad, wanted)


@pytest.mark.parametrize("settings", [{}, {"checkpointing": True}, {"path": "plain"}])
def test_the_gradient_of_a_frequent_token_is_right_in_a_tied_bfloat16_model(settings: dict[str, Any]) -> None:
    policy = load(PolicySettings(precision="bfloat16", **settings), seed=1)
    embedding = policy.model.get_input_embeddings()
    assert embedding.weight is policy.model.get_output_embeddings().weight
    parts: list[Tensor] = []

    def watch(_: Any, given: tuple[Tensor], out: Tensor) -> None:
        places = given[0] == FREQUENT
        assert int(places.sum()) >= 1800
        out.register_hook(lambda grad: parts.append(grad[places].double().sum(0)))

    watching = embedding.register_forward_hook(watch)
    found = gradient_of_row(policy)
    watching.remove()
    embedding.forward = lambda tokens: nnf.embedding(tokens, embedding.weight.detach())
    wanted = parts[0] + gradient_of_row(policy)  # the second is what the output layer alone gives the tied weight
    assert float((found - wanted).norm() / wanted.norm()) < 0.01


def test_float32_and_embeddings_that_are_more_than_a_lookup_stay_as_they_are() -> None:
    assert "forward" not in vars(policy_of(CONFIGS["llama"]).model.get_input_embeddings())
    assert swap_embeddings(model_of(CONFIGS["gemma3"]).bfloat16()) == []  # its own class, which scales
    for setting in ({"max_norm": 1.0}, {"scale_grad_by_freq": True}, {"sparse": True}):
        assert swap_embeddings(nn.Embedding(5, 4, dtype=torch.bfloat16, **setting)) == []
    assert swap_embeddings(model_of(CONFIGS["gpt2"]).half()) == ["2 Embedding with a gradient added in float32"]


def test_a_copy_and_a_saved_folder_of_such_a_model_are_those_of_any_other(tmp_path: Path) -> None:
    policy = load(PolicySettings(precision="bfloat16"), seed=1)
    assert "1 Embedding with a gradient added in float32" in policy.describe()
    assert list(policy.model.state_dict()) == list(load(PolicySettings(precision="float32")).model.state_dict())
    policy.save(tmp_path)
    again = load(PolicySettings(name=str(tmp_path), precision="bfloat16"))
    assert again.version() == policy.version()
    twin = copy.deepcopy(policy.model)
    with torch.no_grad():
        twin.get_input_embeddings().weight.zero_()
    tokens = torch.tensor([[5, 6]])
    assert not twin.get_input_embeddings()(tokens).any()
    assert policy.model.get_input_embeddings()(tokens).any()


def gradient_of_row(policy: Policy) -> Tensor:
    """The gradient of the frequent token's embedding, where nine tokens in ten of six completions are that one."""
    batch = batch_of((3, 3), tuple((row // 3, 350) for row in range(6)))
    count = batch.tokens.numel()
    tokens = torch.where(torch.arange(count) % 10 > 0, FREQUENT, batch.tokens)
    batch = replace(batch, tokens=tokens, weight=torch.full((count,), 1.0 / count))
    assert batch.weight is not None
    loss = (batch.weight * policy(batch).logp).sum()
    return gradients(policy.model, loss)["model.embed_tokens.weight"][FREQUENT].double()
