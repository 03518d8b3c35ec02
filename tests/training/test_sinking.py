"""The output layer and the embedding add their gradients to the step's sum, and to nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from klimb.batch import Batch
from klimb.policy import sinking
from klimb.policy.base import PolicySettings
from klimb.policy.loading import load
from klimb.policy.policy import Policy
from klimb.training.gradients import Gradients
from tests.policy.zoo import batch_of


def loss(policy: Policy, batch: Batch) -> Tensor:
    logp = policy(batch).logp
    return (logp * torch.linspace(-1.0, 1.0, logp.numel())).sum()


def parts(vocabulary: int) -> list[Batch]:
    return [batch_of((5, 9), ((0, 40), (0, 25), (1, 33)), seed=seed, vocabulary=vocabulary) for seed in (1, 2, 3)]


def added_up(policy: Policy, sunk: bool) -> dict[str, Tensor]:
    """The gradient over three parts, in float32."""
    gradients = Gradients(policy.named_parameters())
    gradients.begin(3)
    if not sunk:
        for weight in policy.parameters():
            sinking.put(weight, None)
    for batch in parts(policy.model.config.vocab_size):
        loss(policy, batch).backward()  # type: ignore[no-untyped-call]
        assert all(weight.grad is None for weight in policy.parameters())
    found = {name: gradient.float().clone() for name, gradient in gradients.found().items()}
    gradients.close()
    return found


@pytest.mark.parametrize("settings", [{}, {"checkpointing": True}, {"path": "plain"}])
def test_a_sum_without_gradients_in_between_is_nearer_to_the_truth(settings: dict[str, Any]) -> None:
    policy = load(PolicySettings(precision="bfloat16", **settings), seed=1)
    tied = policy.model.get_input_embeddings().weight
    assert tied is policy.model.get_output_embeddings().weight
    exact = load(PolicySettings(precision="float32", **settings), seed=1)
    with torch.no_grad():
        for own, other in zip(exact.parameters(), policy.parameters(), strict=True):
            own.copy_(other)
    name = next(name for name, weight in policy.named_parameters() if weight is tied)
    truth, sunk, apart = added_up_exactly(exact)[name], added_up(policy, True), added_up(policy, False)
    assert sunk.keys() == apart.keys()
    far = {
        key: float((values[name] - truth).norm() / truth.norm()) for key, values in (("sunk", sunk), ("apart", apart))
    }
    assert far["sunk"] <= far["apart"] * 1.01 < 0.05
    for other in sunk.keys() - {name}:
        assert torch.equal(sunk[other], apart[other])


def added_up_exactly(policy: Policy) -> dict[str, Tensor]:
    for batch in parts(policy.model.config.vocab_size):
        loss(policy, batch).backward()  # type: ignore[no-untyped-call]
    return {name: weight.grad for name, weight in policy.named_parameters() if weight.grad is not None}


def test_outside_of_a_step_of_several_parts_autograd_has_every_gradient() -> None:
    policy = load(PolicySettings(precision="bfloat16"), seed=1)
    batch, weights = parts(policy.model.config.vocab_size)[0], list(policy.parameters())
    before = torch.autograd.grad(loss(policy, batch), weights)
    gradients = Gradients(policy.named_parameters())
    gradients.begin(1)
    assert not [weight for weight in weights if sinking.of(weight) is not None]
    gradients.begin(2)
    held = copy.copy(gradients.found())
    loss(policy, batch).backward()  # type: ignore[no-untyped-call]
    assert not held and len(gradients.found()) == len(weights)
    gradients.clear()
    after = torch.autograd.grad(loss(policy, batch), weights)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    gradients.close()


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_gradients_are_told_in_the_order_of_the_parameters_whichever_came_first(precision: str) -> None:
    policy = load(PolicySettings(precision=precision), seed=1)
    gradients = Gradients(policy.named_parameters())
    gradients.begin(2)
    for batch in parts(policy.model.config.vocab_size)[:2]:
        loss(policy, batch).backward()  # type: ignore[no-untyped-call]
    assert list(gradients.found()) == [name for name, _ in policy.named_parameters()]
    gradients.close()


def test_float32_gradients_lie_in_one_block_and_are_those_of_autograd() -> None:
    policy = load(PolicySettings(precision="float32"), seed=1)
    wanted = added_up_exactly(policy)
    policy.model.zero_grad()
    gradients = Gradients(policy.named_parameters())
    gradients.begin(3)
    for batch in parts(policy.model.config.vocab_size):
        loss(policy, batch).backward()  # type: ignore[no-untyped-call]
    found = gradients.found()
    assert len({one.untyped_storage().data_ptr() for one in found.values()}) == 1
    tied = next(name for name, one in policy.named_parameters() if sinking.of(one) is not None and "embed" in name)
    for name, gradient in wanted.items():
        if name == tied:
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(found[name], gradient), name
    gradients.close()
