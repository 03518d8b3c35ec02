"""The leaner norm and gated activation: right to the last digits, put only where they agree, copied with the model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from klimb.policy.fused import rms_norm, swiglu
from klimb.policy.swaps import swap
from tests.policy.zoo import CONFIGS, batch_of, gradients, largest_gap, policy_of


def test_the_norm_and_its_gradients_are_those_of_the_formula() -> None:
    x = torch.randn(7, 12, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(12, dtype=torch.float64, requires_grad=True)
    step = torch.randn(7, 12, dtype=torch.float64)
    wanted = torch.autograd.grad(
        (x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight * step).sum(), (x, weight)
    )
    single = [leaf.detach().float().requires_grad_() for leaf in (x, weight)]
    found = torch.autograd.grad((rms_norm(single[0], single[1], 1e-3) * step.float()).sum(), single)
    for ours, truth in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.double(), truth, rtol=1e-4, atol=1e-5)


def test_the_gated_activation_has_the_gradients_of_its_formula() -> None:
    gate, up = (torch.randn(5, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(swiglu, (gate, up))


@pytest.mark.parametrize(
    ("name", "wanted"), [("llama", ["7 LlamaRMSNorm", "3 LlamaMLP"]), ("qwen3", ["13 Qwen3RMSNorm", "3 Qwen3MLP"])]
)
def test_what_was_swapped_is_named(name: str, wanted: list[str]) -> None:
    notes = policy_of(CONFIGS[name]).describe()
    assert all(f"{part} in a leaner form" in notes for part in wanted)


def test_a_norm_of_another_formula_stays_as_it_is() -> None:
    assert "leaner" not in policy_of(CONFIGS["gemma3"]).describe()

    class OddRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = nn.Parameter(torch.ones(8)), 1e-6

        def forward(self, x: Tensor) -> Tensor:
            return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight.square()

    odd = nn.Sequential(OddRMSNorm())
    assert swap(odd) == []
    assert "forward" not in vars(odd[0])


def test_a_copy_of_a_swapped_model_computes_with_its_own_weights() -> None:
    policy = policy_of(CONFIGS["llama"])
    twin = copy.deepcopy(policy.model)
    ids = torch.tensor([[3, 5, 8]])
    before = twin(input_ids=ids).logits
    assert torch.equal(before, policy.model(input_ids=ids).logits)
    with torch.no_grad():
        twin.model.norm.weight.mul_(2.0)
    torch.testing.assert_close(twin(input_ids=ids).logits, 2.0 * before)
    assert torch.equal(policy.model(input_ids=ids).logits, before)


def test_swapped_and_plain_models_have_the_same_gradients_in_bfloat16_up_to_rounding() -> None:
    exact = policy_of(CONFIGS["llama"])
    batch = batch_of()
    assert batch.weight is not None
    wanted = gradients(exact.model, (batch.weight * exact(batch).logp).sum())
    policy = policy_of(CONFIGS["llama"])
    policy.model.bfloat16()
    found = gradients(policy.model, (batch.weight * policy(batch).logp).sum())
    assert largest_gap({name: grad.float() for name, grad in found.items()}, wanted) < 0.15
